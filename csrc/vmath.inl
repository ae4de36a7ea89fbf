// Elementary functions for loops that the compiler vectorises: no branches, no calls. The polynomials
// are generated; includers define KR_INLINE and the square root `root`.

template <class T> KR_INLINE T min_(T a, T b) { return a < b ? a : b; }
template <class T> KR_INLINE T max_(T a, T b) { return a > b ? a : b; }
template <class T> KR_INLINE T abs_(T a) { return a < T(0) ? -a : a; }

// Angle whose cosine is 1 - gap, for gap in [0, 1].
template <class T> KR_INLINE T arc_(T gap) {
  T z = max_(gap, T(0)) * T(0.5);
  return root(z) * arc_poly(z);
}

// (sin a - a cos a) / pi with a = arc(gap): the part of ReLU's correlation that is not linear.
template <class T> KR_INLINE T lune_(T gap) {
  T z = max_(gap, T(0)) * T(0.5);
  return z * root(z) * lune_poly(z);
}

// Angle whose sine is x, for x in [0, sqrt(1/2)].
template <class T> KR_INLINE T asin_(T x) { return T(0.5) * x * arc_poly(x * x); }

template <class T> struct exp_traits;
template <> struct exp_traits<float> {
  using bits = int32_t;
  static constexpr float low = -87.3f, high = 88.3f, round = 12582912.0f;
  static constexpr float ln2_hi = 0.693359375f, ln2_lo = -2.12194440e-4f;
  static constexpr int bias = 127, mantissa = 23;
};
template <> struct exp_traits<double> {
  using bits = int64_t;
  static constexpr double low = -708.3, high = 709.4, round = 6755399441055744.0;
  static constexpr double ln2_hi = 6.93147180369123816490e-01, ln2_lo = 1.90821492927058770002e-10;
  static constexpr int bias = 1023, mantissa = 52;
};

// exp(x) = 2^n (1 + tail) with |tail| < 0.42; returns 2^n.
template <class T> KR_INLINE T exp_split(T x, T &tail) {
  using E = exp_traits<T>;
  x = min_(max_(x, E::low), E::high);
  T shifted = x * T(1.44269504088896340736) + E::round;
  T n = shifted - E::round;
  T r = (x - n * E::ln2_hi) - n * E::ln2_lo;
  tail = r + r * r * exp_poly(r);
  typename E::bits whole =
      __builtin_bit_cast(typename E::bits, shifted) - __builtin_bit_cast(typename E::bits, E::round);
  return __builtin_bit_cast(T, (whole + E::bias) << E::mantissa);
}

template <class T> KR_INLINE T exp_(T x) {
  T tail, scale = exp_split(x, tail);
  return x < exp_traits<T>::low ? T(0) : scale + scale * tail;
}

template <class T> KR_INLINE T expm1_(T x) {
  T tail, scale = exp_split(x, tail);
  return scale * tail + (scale - T(1));
}
