// What the steps of a kernel program do to a pair of rows: the formulas that the virtual machine of
// the cpu backend and the CUDA kernels share.
//
// The state of a pair is its correlation, gap = 1 - |correlation| and tau = ntk / (standard
// deviations).

template <class T> struct State { T rho, gap, tau; };

template <class T> KR_INLINE T gap_of(T rho) { return max_(T(0), T(1) - abs_(rho)); }

// k' = W^2 k + b^2 in correlations: (u, v) of a row is the unit vector of its weight and bias part.
template <bool NONNEGATIVE, bool BIAS, class T>
KR_INLINE void mix(State<T> &s, T ui, T uj, T vi, T vj) {
  T uu = ui * uj, du = ui - uj;
  if (!BIAS) {
    s.tau = s.rho + uu * s.tau;
    return;
  }
  T half = T(0.5), dv = vi - vj;
  T apart = half * du * du;
  if (NONNEGATIVE) {
    s.gap = uu * s.gap + (apart + half * dv * dv);
    s.rho = T(1) - s.gap;
  } else {
    T far = T(2) - s.gap, sv = vi + vj;
    bool positive = s.rho > T(0);
    T below = uu * (positive ? s.gap : far) + (apart + half * dv * dv);
    T above = uu * (positive ? far : s.gap) + (apart + half * sv * sv);
    s.gap = min_(below, above);
    s.rho = below < above ? T(1) - below : above - T(1);
  }
  s.tau = s.rho + uu * s.tau;
}

// Tangent kernel behind a dense layer in the "standard" parameterization.
template <class T>
KR_INLINE T standard(T before, T trained, T ui, T uj, T gi, T gj, T hi, T hj) {
  return ui * uj * trained + gi * gj * before + hi * hj;
}

// Correlations with a smaller gap need the formula for it; a larger one keeps ten digits in float64,
// and six in float32, when it comes from a subtraction.
template <class T> constexpr T kClose = sizeof(T) == sizeof(float) ? T(0.1) : T(1e-4);

// A generated dual, with the dense layer behind it (DENSE: 0 none, 1 without bias, 2 with bias).
// POSITIVE says that the correlation before it is not negative, NONNEGATIVE the same of its value.
// CLOSE asks for the formula of the gap; `gap` is that before the dense layer.
template <class D, int DENSE, bool NONNEGATIVE, bool POSITIVE, bool CLOSE, class T>
KR_INLINE State<T> dual_pair(const State<T> &s, const T *c, const T *xs, const T *ys, T ui, T uj,
                             T vi, T vj, T &gap) {
  State<T> t;
  T dot;
  D::template eval<POSITIVE, CLOSE>(s.rho, s.gap, c, xs, ys, t.rho, t.gap, dot);
  t.tau = dot * s.tau;
  gap = t.gap;
  if (DENSE == 1) mix<NONNEGATIVE, false>(t, ui, uj, T(0), T(0));
  if (DENSE == 2) mix<NONNEGATIVE, true>(t, ui, uj, vi, vj);
  return t;
}

template <class T>
KR_INLINE State<T> sum_pair(const State<T> &a, const State<T> &b, T ui, T uj, T vi, T vj) {
  T uu = ui * uj, vv = vi * vj, du = ui - uj, dv = vi - vj;
  T apart = T(0.5) * (du * du + dv * dv), two = T(2);
  bool pa = a.rho > T(0), pb = b.rho > T(0);
  T below = uu * (pa ? a.gap : two - a.gap) + vv * (pb ? b.gap : two - b.gap) + apart;
  T above = uu * (pa ? two - a.gap : a.gap) + vv * (pb ? two - b.gap : b.gap) + apart;
  return {below < above ? T(1) - below : above - T(1), min_(below, above),
          uu * a.tau + vv * b.tau};
}

template <class T> KR_INLINE State<T> product_pair(const State<T> &a, const State<T> &b) {
  return {a.rho * b.rho, a.gap + b.gap - a.gap * b.gap, a.tau * b.rho + a.rho * b.tau};
}

template <class T> KR_INLINE State<T> dropout_pair(const State<T> &s, T keep) {
  return {keep * s.rho, (T(1) - keep) + keep * s.gap, keep * s.tau};
}

// The correlation that a series is summed at: an odd or even nonlinearity (parity -1 or 1) is the
// same on both sides of 0, but for signs.
template <class T> KR_INLINE T series_at(T rho, T parity) { return parity != T(0) ? abs_(rho) : rho; }

// A nonlinearity whose correlation and derivative come from series. While the correlation is
// positive the gap of close pairs comes without a subtraction: `apart` is that of parallel rows,
// `growth` the factor on the gap.
template <class T>
KR_INLINE State<T> series_pair(const State<T> &s, T parity, T value, T slope, T growth, T apart) {
  T below = apart + max_(T(0), growth) * s.gap;
  bool mirrored = parity != T(0) && s.rho < T(0);
  bool close = series_at(s.rho, parity) > T(0) && below < T(0.5) && min_(s.gap, below) < kClose<T>;
  T rho = close ? T(1) - below : value, tau = slope * s.tau;
  return {mirrored ? parity * rho : rho, close ? below : gap_of(value),
          mirrored ? -parity * tau : tau};
}

// The same of pairs that are not close.
template <class T>
KR_INLINE State<T> far_series_pair(const State<T> &s, T parity, T value, T slope) {
  bool mirrored = parity != T(0) && s.rho < T(0);
  T tau = slope * s.tau;
  return {mirrored ? parity * value : value, gap_of(value), mirrored ? -parity * tau : tau};
}

// Many layers as series in the angle. The gap of equal rows stays 0.
template <class T> KR_INLINE State<T> profile_pair(const State<T> &s, T value, T tau) {
  bool equal = s.rho > T(0) && !(s.gap > T(0));
  return {equal ? T(1) : value, equal ? T(0) : gap_of(value), tau};
}

// 2 (1 - 2 theta / pi), of the angle between two rows.
template <class T> KR_INLINE T chebyshev_at(T rho, T gap) {
  T pi = T(3.14159265358979323846), four_by_pi = T(1.27323954473516268615);
  T angle = arc_(gap);
  angle = rho > T(0) ? angle : pi - angle;
  return T(2) - angle * four_by_pi;
}
