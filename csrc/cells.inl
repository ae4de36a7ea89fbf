// Pairs of cells of two images (see plane.inl): their state, and what a nonlinearity does to many.
//
// The state of a pair of cells is the square of their distance, D = q + q' - 2 k, and twice the
// tangent kernel, N. Sums of independent parts are sums of both. A dead cell has variance 0, which
// makes D the variance of the other one.

template <class T> struct Plane { T *D, *N; };

// Two positions by their standard deviations; the inverse is that of twice the product.
template <class T> struct Cells {
  T s, t, inverse;
  // 1 - rho; without cancellation where both deviations are equal.
  inline __attribute__((always_inline)) T opposite(T D) const {
    T apart = s - t;
    return min_(T(2), max_(T(0), D - apart * apart) * inverse);
  }
  inline __attribute__((always_inline)) T twice() const { return (s + s) * t; }
  inline __attribute__((always_inline)) T distance(T opposite) const {
    T apart = s - t;
    return twice() * opposite + apart * apart;
  }
};

template <class T> KR_INLINE T opposite_of(const State<T> &p) {
  return p.rho > T(0) ? p.gap : T(2) - p.gap;
}

// Cells that are worked on at a time, so that sums between lines stay in L1.
constexpr int kCells = 256, kReach = 32;

// A filter and a dense layer, of which `line` and `step` are the offsets between lines and within
// them if TAPS is 3, and which is done before if not; and the nonlinearity behind them.
// LINEAR says that it scales with its input; POSITIVE that no correlation before it is negative,
// NONNEGATIVE the same of those behind it; PLAIN that the dense layer's numbers are 1, 1 and 0.
template <class D, int TAPS, bool POSITIVE, bool NONNEGATIVE, bool LINEAR, bool PLAIN, class T>
void plane_dual(Plane<T> in, Plane<T> out, const T *x, int64_t ldx, const T *y, int64_t ldy,
                const T *constants, int64_t line, int64_t step, int64_t n) {
  T scale = constants[0], rest = constants[1], own = constants[2], bias = constants[3];
  T c[D::scalars + 1];
  for (int k = 0; k < D::scalars; ++k) c[k] = constants[4 + k];
  constexpr int first = LINEAR ? 2 : 3;
  alignas(64) T sums[2][kCells + 2 * kReach + kBeyond];
  for (int64_t from = 0; from < n; from += kCells) {
    int m = int(n - from < kCells ? n - from : kCells);
    const T *P = in.D + from, *N = in.N + from;
    if (TAPS == 3) {
      T *e = sums[0] + kReach, *f = sums[1] + kReach;
      int64_t count = (m + 2 * step + kBeyond - 1) / kBeyond * kBeyond;
#pragma GCC ivdep
      for (int64_t j = 0; j < count; ++j) {
        int64_t at = j - step;
        e[at] = P[at - line] + P[at] + P[at + line];
        f[at] = N[at - line] + N[at] + N[at + line];
      }
      P = e, N = f;
    }
    const T *s = x + from, *t = y + from, *si = s + ldx, *ti = t + ldy;
    T *to_D = out.D + from, *to_N = out.N + from;
#pragma GCC ivdep
    for (int64_t j = 0; j < m; ++j) {
      T xs[D::rows1 + 1], ys[D::rows2 + 1];
#pragma GCC unroll 16
      for (int k = 0; k < D::rows1; ++k) xs[k] = s[(first + k) * ldx + j];
#pragma GCC unroll 16
      for (int k = 0; k < D::rows2; ++k) ys[k] = t[(first + k) * ldy + j];
      T distance = P[j], trained = N[j];
      if (TAPS == 3) {
        distance += P[j - step] + P[j + step];
        trained += N[j - step] + N[j + step];
      }
      Cells<T> p{s[j], t[j], si[j] * ti[j]};
      T apart = p.s - p.t, lost = apart * apart, twice = p.twice();
      if (!PLAIN) {  // the rest is what a rounded factor would add up to over thousands of layers
        distance = scale * distance + rest * distance;
        trained = scale * trained + rest * trained;
      }
      T opposite = (distance - lost) * p.inverse, gap = opposite;
      if (!POSITIVE) {  // else rounding below 0 does no harm
        opposite = min_(T(2), max_(T(0), opposite));
        gap = min_(opposite, T(2) - opposite);
      }
      T rho = T(1) - opposite;
      trained += PLAIN ? twice * rho : own * (twice * rho) + bias;
      State<T> v;
      T dot;
      D::template eval<POSITIVE, true>(rho, gap, c, xs, ys, v.rho, v.gap, dot);
      T behind = NONNEGATIVE ? v.gap : opposite_of(v);
      trained *= dot;
      if (LINEAR) {
        to_D[j] = twice * behind + lost;
        to_N[j] = p.inverse > T(0) ? trained : T(0);
      } else {
        Cells<T> q{s[2 * ldx + j], t[2 * ldy + j], T(0)};
        // A dual divides by numbers that dead cells do not have.
        T around = q.twice();
        bool alive = around > T(0);
        to_D[j] = q.distance(alive ? behind : T(1));
        to_N[j] = alive ? around * (trained * p.inverse) : T(0);
      }
    }
  }
}

template <class D, class T>
void run_plane_dual(const Instr &I, Plane<T> in, Plane<T> out, const T *x, int64_t ldx, const T *y,
                    int64_t ldy, const T *c, const int64_t *offsets, int64_t n) {
  bool linear = I.n & flag_linear, positive = I.n & flag_positive, three = I.b;
  bool nonnegative = I.n & flag_nonnegative, plain = c[0] == T(1) && c[1] == T(0) && c[2] == T(1) && c[3] == T(0);
  int64_t line = three ? offsets[0] : 0, step = three ? offsets[1] : 0;
#define KR_RUN(taps, pos, non, lin, pln) \
  return plane_dual<D, taps, pos, non, lin, pln>(in, out, x, ldx, y, ldy, c, line, step, n)
  if constexpr (D::rows1 == 0) {
    if (linear && nonnegative && positive && three && plain) KR_RUN(3, true, true, true, true);
    if (linear && nonnegative && positive && three) KR_RUN(3, true, true, true, false);
    if (linear && nonnegative && positive) KR_RUN(1, true, true, true, false);
    if (linear && nonnegative && three && plain) KR_RUN(3, false, true, true, true);
    if (linear && three) KR_RUN(3, false, false, true, false);
    if (linear) KR_RUN(1, false, false, true, false);
  }
  if (three) KR_RUN(3, false, false, false, false);
  KR_RUN(1, false, false, false, false);
#undef KR_RUN
}
