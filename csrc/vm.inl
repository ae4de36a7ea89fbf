// The virtual machine: a kernel program on one row of a tile, a block of columns at a time.
//
// State s of the program is three block registers: correlation (3 s), gap = 1 - |correlation|
// (3 s + 1) and tau = ntk / (standard deviations) (3 s + 2). Every instruction is one loop over
// the block, which stays in L1.

template <class T> struct Block {
  T *rho, *gap, *tau;
  State<T> load(int j) const { return {rho[j], gap[j], tau[j]}; }
  void store(int j, const State<T> &s) const { rho[j] = s.rho; gap[j] = s.gap; tau[j] = s.tau; }
};

#include "generated/duals.inl"
#include "jet.inl"

// A generated dual, with the dense layer behind it in the same pass. Slots of the dense layer follow
// those of the dual.
// Returns the smallest gap before the dense layer.
template <class D, int DENSE, bool NONNEGATIVE, bool POSITIVE, bool CLOSE, class T>
T dual_loop(Block<T> in, Block<T> out, const T *x, int64_t ldx, const T *y, int64_t ldy,
               const T *constants, int n) {
  // Copies, as what is written might be what they are read from.
  T c[D::scalars + 1], xs[D::rows1 + 1];
  for (int k = 0; k < D::scalars; ++k) c[k] = constants[k];
  for (int k = 0; k < D::rows1; ++k) xs[k] = x[k * ldx];
  T ui = DENSE ? x[D::rows1 * ldx] : T(0), vi = DENSE == 2 ? x[(D::rows1 + 1) * ldx] : T(0);
  const T *u = y + D::rows2 * ldy, *v = u + ldy;
  T least = T(1);
#pragma GCC ivdep
  for (int j = 0; j < n; ++j) {
    T gap, ys[D::rows2 + 1];
#pragma GCC unroll 16
    for (int k = 0; k < D::rows2; ++k) ys[k] = y[k * ldy + j];
    T uj = DENSE ? u[j] : T(0), vj = DENSE == 2 ? v[j] : T(0);
    out.store(j, dual_pair<D, DENSE, NONNEGATIVE, POSITIVE, CLOSE>(in.load(j), c, xs, ys, ui, uj,
                                                                   vi, vj, gap));
    if (!CLOSE) least = min_(least, gap);
  }
  return least;
}

template <class D, bool CLOSE, class T>
T dual_block(const Instr &I, Block<T> in, Block<T> out, const T *x, int64_t ldx, const T *y,
             int64_t ldy, const T *c, int n) {
  bool nonnegative = I.n & flag_nonnegative, positive = I.n & flag_positive;
  if (I.b == 0) return dual_loop<D, 0, false, false, CLOSE>(in, out, x, ldx, y, ldy, c, n);
  if (I.b == 1) return dual_loop<D, 1, false, false, CLOSE>(in, out, x, ldx, y, ldy, c, n);
  if (!nonnegative) return dual_loop<D, 2, false, false, CLOSE>(in, out, x, ldx, y, ldy, c, n);
  if (!positive) return dual_loop<D, 2, true, false, CLOSE>(in, out, x, ldx, y, ldy, c, n);
  return dual_loop<D, 2, true, true, CLOSE>(in, out, x, ldx, y, ldy, c, n);
}

// Runs `far`, which gives the smallest gap that it made, and in its place `close` where a gap before
// or behind is so small that it needs the formula for it.
template <class T, class Far, class Close> void by_gap(Block<T> in, int n, Far far, Close close) {
  T least = T(1);
  for (int j = 0; j < n; ++j) least = min_(least, in.gap[j]);
  if (least < kClose<T>) return close(in);
  // What comes in is kept, as the block may have to be done again: all of it, as series read beyond n.
  alignas(64) T kept[3][kBlock];
  const T *from[] = {in.rho, in.gap, in.tau};
  for (int k = 0; k < 3; ++k) std::memcpy(kept[k], from[k], kBlock * sizeof(T));
  if (far(in) < kClose<T>) close(Block<T>{kept[0], kept[1], kept[2]});
}

template <class D, class T>
void run_dual(const Instr &I, Block<T> in, Block<T> out, const T *x, int64_t ldx, const T *y,
              int64_t ldy, const T *c, int n) {
  auto close = [&](Block<T> from) { dual_block<D, true>(I, from, out, x, ldx, y, ldy, c, n); };
  if constexpr (D::two_ways)
    by_gap(in, n, [&](Block<T> from) { return dual_block<D, false>(I, from, out, x, ldx, y, ldy, c, n); }, close);
  else
    close(in);
}

template <class T> struct Machine {
  const Instr *code;
  int64_t n_code;
  const T *consts;
  const T *table_x, *table_y;
  int64_t ldx, ldy;
  T (*regs)[kBlock];
  bool want_nngp, want_ntk;

  Block<T> state(int s) const { return {regs[3 * s], regs[3 * s + 1], regs[3 * s + 2]}; }

  void dense(const Instr &I, const T *x, const T *y, int n) const {
    Block<T> in = state(I.a), out = state(I.dst);
    const T *u = y, *v = y + ldy;
    T ui = x[0], vi = I.b ? x[ldx] : T(0);
    int at = 1 + I.b;
    const T *g = y + at * ldy, *h = g + ldy;
    T gi = I.n ? x[at * ldx] : T(0), hi = I.n ? x[(at + 1) * ldx] : T(0);
#pragma GCC ivdep
    for (int j = 0; j < n; ++j) {
      State<T> s = in.load(j);
      T trained = s.tau, before = s.rho;
      if (I.b) mix<false, true>(s, ui, u[j], vi, v[j]);
      else mix<false, false>(s, ui, u[j], T(0), T(0));
      if (I.n) s.tau = standard(before, trained, ui, u[j], gi, g[j], hi, h[j]);
      out.store(j, s);
    }
  }

  void sum(const Instr &I, const T *x, const T *y, int n) const {
    Block<T> p = state(I.a), q = state(I.b), out = state(I.dst);
    const T *u = y, *v = y + ldy;
    T ui = x[0], vi = x[ldx];
#pragma GCC ivdep
    for (int j = 0; j < n; ++j)
      out.store(j, sum_pair(p.load(j), q.load(j), ui, u[j], vi, v[j]));
  }

  void product(const Instr &I, int n) const {
    Block<T> p = state(I.a), q = state(I.b), out = state(I.dst);
#pragma GCC ivdep
    for (int j = 0; j < n; ++j) out.store(j, product_pair(p.load(j), q.load(j)));
  }

  void dropout(const Instr &I, int n) const {
    Block<T> in = state(I.a), out = state(I.dst);
    T keep = consts[I.c];
#pragma GCC ivdep
    for (int j = 0; j < n; ++j) out.store(j, dropout_pair(in.load(j), keep));
  }

  // rho' = sum_m a_m(i) a_m(j) rho^m: a nonlinearity by its Hermite coefficients per row, and a
  // factor on the derivative behind them. An odd or even function has every other coefficient, and
  // is a series in the square. The values of Horner's scheme are the coefficients of
  // (p(x) - p(z)) / (x - z), so that their sum is the factor on the gap.
  template <bool CLOSE> T series(const Instr &I, Block<T> in, const T *x, const T *y, int n) const {
    using vec = typename simd<T>::vec;
    constexpr int L = simd<T>::lanes, V = CLOSE ? 2 : 4, W = V * L;
    Block<T> out = state(I.dst);
    T parity = consts[I.c], least = T(1);
    bool odd = parity < T(0), halved = parity != T(0);
    int first = odd ? 1 : 0, step = halved ? 2 : 1, last = I.n - 1;
    if (halved && (last & 1) != first) --last;
    for (int j0 = 0; j0 < n; j0 += W) {
      int live = n - j0 < W ? n - j0 : W;
      alignas(64) T padded[W] = {}, moments[CLOSE ? 4 : 2][W], at[W];
      for (int j = 0; j < W; ++j) at[j] = series_at(in.rho[j0 + j], parity);
      vec z[V], value[V], slope[V], growth[V], apart[V];
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) {
        z[v] = *(const vec *)(at + v * L);
        if (halved) z[v] *= z[v];
        value[v] = slope[v] = growth[v] = apart[v] = vec{};
      }
      for (int m = last; m >= first; m -= step) {
        T xm = x[m * ldx];
        const T *ym = y + m * ldy + j0;
        if (live < W) {
          for (int j = 0; j < live; ++j) padded[j] = ym[j];
          ym = padded;
        }
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) {
          vec a = *(const vec *)(ym + v * L);
          slope[v] = slope[v] * z[v] + value[v];
          if (CLOSE) growth[v] += value[v];
          value[v] = value[v] * z[v] + xm * a;
          if (CLOSE) apart[v] += (xm - a) * (xm - a);
        }
      }
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) {
        *(vec *)(moments[0] + v * L) = value[v];
        *(vec *)(moments[1] + v * L) = slope[v];
        if (!CLOSE) continue;
        *(vec *)(moments[2] + v * L) = growth[v];
        *(vec *)(moments[3] + v * L) = apart[v];
      }
      T fx = x[I.n * ldx];
      const T *fy = y + I.n * ldy + j0;
#pragma GCC ivdep
      for (int j = 0; j < live; ++j) {
        T r = at[j], q = moments[0][j], d = moments[1][j];
        T value = odd ? r * q : q, slope = odd ? q + T(2) * r * r * d : halved ? T(2) * r * d : d;
        slope *= fx * fy[j];
        State<T> made;
        if (CLOSE) {
          T g = moments[2][j], growth = halved ? (T(1) + r) * g + (odd ? q : T(0)) : g;
          made = series_pair(in.load(j0 + j), parity, value, slope, growth, T(0.5) * moments[3][j]);
        } else {
          made = far_series_pair(in.load(j0 + j), parity, value, slope);
          least = min_(least, made.gap);
        }
        out.store(j0 + j, made);
      }
    }
    return least;
  }

  // A Chebyshev series in the angle whose coefficients are bilinear in the weights that both rows
  // give to I.b nodes: a nonlinearity between rows of different norms. Behind the weights stand what
  // the gap of parallel rows is made of, and a factor on the derivative.
  template <bool CLOSE> T angles(const Instr &I, Block<T> in, const T *x, const T *y, int n) const {
    Block<T> out = state(I.dst);
    int nodes = I.b;
    alignas(64) T at[kBlock], moments[3][kBlock], mixed[kAngleTerms], apart[kBlock];
    T parity = consts[I.c], least = T(1);
    for (int j = 0; j < kBlock; ++j) at[j] = series_at(in.rho[j], parity);
    chebyshev_argument(at, in.gap, at, kBlock);
    for (int k = 0; k < (CLOSE ? 3 : 2); ++k) {
      const T *c = consts + I.c + 1 + int64_t(k) * I.n * nodes * nodes;
      for (int m = 0; m < I.n * nodes; ++m) mixed[m] = T(0);
      for (int m = 0; m < I.n; ++m)
        for (int a = 0; a < nodes; ++a) {
          T weight = x[a * ldx];
          const T *row = c + (int64_t(m) * nodes + a) * nodes;
#pragma GCC ivdep
          for (int b = 0; b < nodes; ++b) mixed[m * nodes + b] += weight * row[b];
        }
      bilinear_clenshaw(mixed, I.n, nodes, at, y, moments[k], n);
    }
    T fx = x[2 * nodes * ldx];
    const T *fy = y + 2 * nodes * ldy;
    if (!CLOSE) {
#pragma GCC ivdep
      for (int j = 0; j < n; ++j) {
        State<T> made = far_series_pair(in.load(j), parity, moments[0][j], moments[1][j] * (fx * fy[j]));
        least = min_(least, made.gap);
        out.store(j, made);
      }
      return least;
    }
    for (int j = 0; j < n; ++j) apart[j] = T(0);
    for (int b = nodes; b < 2 * nodes; ++b) {
      T xb = x[b * ldx];
      const T *yb = y + b * ldy;
#pragma GCC ivdep
      for (int j = 0; j < n; ++j) apart[j] += T(0.5) * (xb - yb[j]) * (xb - yb[j]);
    }
#pragma GCC ivdep
    for (int j = 0; j < n; ++j)
      out.store(j, series_pair(in.load(j), parity, moments[0][j], moments[1][j] * (fx * fy[j]),
                               moments[2][j], apart[j]));
    return least;
  }

  // Clenshaw's recurrence with the coefficients sum_b mixed[m, b] y[b] of each column.
  void bilinear_clenshaw(const T *mixed, int terms, int nodes, const T *at, const T *y, T *to,
                         int n) const {
    using vec = typename simd<T>::vec;
    constexpr int L = simd<T>::lanes, V = 4;
    for (int j0 = 0; j0 < n; j0 += V * L) {
      alignas(64) T weights[kMaxNodes][V * L];
      for (int b = 0; b < nodes; ++b)
        for (int j = 0; j < V * L; ++j) weights[b][j] = j0 + j < n ? y[b * ldy + j0 + j] : T(0);
      vec p1[V], p2[V], c[V];
      for (int v = 0; v < V; ++v) p1[v] = p2[v] = vec{};
      for (int m = terms - 1; m >= 0; --m) {
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) c[v] = vec{};
        for (int b = 0; b < nodes; ++b)
#pragma GCC unroll 8
          for (int v = 0; v < V; ++v) c[v] += mixed[m * nodes + b] * *(const vec *)(weights[b] + v * L);
        T half = m > 0 ? T(1) : T(0.5);
#pragma GCC unroll 8
        for (int v = 0; v < V; ++v) {
          vec p = half * *(const vec *)(at + j0 + v * L) * p1[v] + (c[v] - p2[v]);
          p2[v] = p1[v];
          p1[v] = p;
        }
      }
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) *(vec *)(to + j0 + v * L) = p1[v];
    }
  }

  static void chebyshev_argument(const T *rho, const T *gap, T *x, int n) {
#pragma GCC ivdep
    for (int j = 0; j < n; ++j) x[j] = chebyshev_at(rho[j], gap[j]);
  }

  // A Chebyshev series at 2 x, by Clenshaw's recurrence in registers.
  static void clenshaw(const T *c, int terms, const T *x, T *out) {
    using vec = typename simd<T>::vec;
    constexpr int L = simd<T>::lanes, V = 4;
    vec t[V], p1[V], p2[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      t[v] = *(const vec *)(x + v * L);
      p1[v] = p2[v] = vec{};
    }
    for (int k = terms - 1; k > 0; --k)
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) {
        vec p = t[v] * p1[v] + (c[k] - p2[v]);
        p2[v] = p1[v];
        p1[v] = p;
      }
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) *(vec *)(out + v * L) = T(0.5) * t[v] * p1[v] + (c[0] - p2[v]);
  }

  // Many layers as two Chebyshev series in the angle. At the end of a program (`last`) only what
  // is wanted is worked out.
  void profile(const Instr &I, int n, bool last) const {
    Block<T> in = state(I.a), out = state(I.dst);
    constexpr int W = 4 * simd<T>::lanes;
    for (int j0 = 0; j0 < n; j0 += W) {
      alignas(64) T x[W], rho[W];
      chebyshev_argument(in.rho + j0, in.gap + j0, x, W);
      if (!last || want_ntk) clenshaw(consts + I.c + I.n, I.n, x, out.tau + j0);
      if (last && !want_nngp) continue;
      clenshaw(consts + I.c, I.n, x, rho);
#pragma GCC ivdep
      for (int j = 0; j < W; ++j)
        out.store(j0 + j, profile_pair(in.load(j0 + j), rho[j], out.tau[j0 + j]));
    }
  }

  template <class F> void each(int n, F f) const {
#pragma GCC ivdep
    for (int j = 0; j < n; ++j) f(j);
  }

  void primitive(const Instr &I, const T *x, const T *y, int n) const {
    T *o = regs[I.dst];
    const T *a = regs[I.a], *b = regs[I.b], *c = regs[I.c];
    switch (I.op) {
      case op_rowx: { T v = x[0]; each(n, [=](int j) { o[j] = v; }); break; }
      case op_rowy: each(n, [=](int j) { o[j] = y[j]; }); break;
      case op_scalar: { T v = consts[I.n]; each(n, [=](int j) { o[j] = v; }); break; }
      case op_add: each(n, [=](int j) { o[j] = a[j] + b[j]; }); break;
      case op_sub: each(n, [=](int j) { o[j] = a[j] - b[j]; }); break;
      case op_mul: each(n, [=](int j) { o[j] = a[j] * b[j]; }); break;
      case op_div: each(n, [=](int j) { o[j] = a[j] / b[j]; }); break;
      case op_min: each(n, [=](int j) { o[j] = min_(a[j], b[j]); }); break;
      case op_max: each(n, [=](int j) { o[j] = max_(a[j], b[j]); }); break;
      case op_gt: each(n, [=](int j) { o[j] = a[j] > b[j] ? T(1) : T(0); }); break;
      case op_ge: each(n, [=](int j) { o[j] = a[j] >= b[j] ? T(1) : T(0); }); break;
      case op_where: each(n, [=](int j) { o[j] = a[j] > T(0) ? b[j] : c[j]; }); break;
      case op_sqrt: each(n, [=](int j) { o[j] = root(a[j]); }); break;
      case op_exp: each(n, [=](int j) { o[j] = exp_(a[j]); }); break;
      case op_expm1: each(n, [=](int j) { o[j] = expm1_(a[j]); }); break;
      case op_abs: each(n, [=](int j) { o[j] = abs_(a[j]); }); break;
      case op_arc: each(n, [=](int j) { o[j] = arc_(a[j]); }); break;
      case op_lune: each(n, [=](int j) { o[j] = lune_(a[j]); }); break;
      case op_asin: each(n, [=](int j) { o[j] = asin_(a[j]); }); break;
      case op_copy: each(n, [=](int j) { o[j] = a[j]; }); break;
    }
  }

  // Row i against columns [j0, j0 + n); state 0 holds the inputs before and the result after.
  void run(int64_t i, int64_t j0, int n) const {
    struct Turn { int64_t start; int left; int64_t ox, oy; int sx, sy; } stack[8];
    int depth = 0;
    int64_t ox = 0, oy = 0;
    for (int64_t p = 0; p < n_code; ++p) {
      const Instr &I = code[p];
      const T *x = table_x + (I.x + ox) * ldx + i, *y = table_y + (I.y + oy) * ldy + j0;
      switch (I.op) {
        case op_loop: stack[depth++] = {p, I.n, ox, oy, I.x, I.y}; break;
        case op_next: {
          Turn &t = stack[depth - 1];
          if (--t.left > 0) {
            ox += t.sx; oy += t.sy; p = t.start;
          } else {
            ox = t.ox; oy = t.oy; --depth;
          }
          break;
        }
        case op_dense: dense(I, x, y, n); break;
        case op_sum: sum(I, x, y, n); break;
        case op_product: product(I, n); break;
        case op_dropout: dropout(I, n); break;
        case op_series:
          by_gap(state(I.a), n, [&](Block<T> in) { return series<false>(I, in, x, y, n); },
                 [&](Block<T> in) { series<true>(I, in, x, y, n); });
          break;
        case op_angles:
          by_gap(state(I.a), n, [&](Block<T> in) { return angles<false>(I, in, x, y, n); },
                 [&](Block<T> in) { angles<true>(I, in, x, y, n); });
          break;
        case op_profile: profile(I, n, p + 1 == n_code); break;
        case op_jet_dense: run_jet(I, regs, x, ldx, y, ldy, consts, n); p += kJetRegisters; break;
        default:
          if (I.op >= op_jet) {
            run_jet(I, regs, x, ldx, y, ldy, consts, n);
            p += kJetRegisters;
            break;
          }
          if (I.op < op_dual) { primitive(I, x, y, n); break; }
          switch (I.op - op_dual) {
#define KR_DUAL(k) \
  case k: run_dual<Dual##k<T>>(I, state(I.a), state(I.dst), x, ldx, y, ldy, consts + I.c, n); break;
            KR_DUALS
#undef KR_DUAL
          }
      }
    }
  }
};
