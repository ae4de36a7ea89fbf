// Elementary functions for loops that the compiler vectorises: no branches, no calls.
// The polynomials interpolate at Chebyshev nodes; relative error of each is below 2e-8 in float
// and 3e-17 in double on its interval.

template <class T> inline constexpr T arc_poly[] = {0};
template <> inline constexpr float arc_poly<float>[] = {
    1.999999977f, 0.3333390934f, 0.1497622888f,
    0.09296169893f, 0.03346277790f, 0.1510795076f,
    -0.1801724334f, 0.2193479665f};
template <> inline constexpr double arc_poly<double>[] = {
    2.000000000000000023, 0.3333333333332997383, 0.1500000000080363219,
    0.08928571352523000679, 0.06076392679350365706, 0.04474316955864070596,
    0.03472856287820705641, 0.02760689179178395962, 0.02638200514350780720,
    -0.005203075696599375842, 0.1574322271400425326, -0.5937410861379648534,
    2.016403330106837488, -4.981761625245223396, 9.284137819977686728,
    -12.45859975079597154, 11.51588166262939749, -6.557866313479624542,
    1.778580873527737598};
template <class T> inline constexpr T lune_poly[] = {0};
template <> inline constexpr float lune_poly<float>[] = {
    0.8488263619f, 0.08488294519f, 0.02727093906f,
    0.01282930855f, 0.005556293851f, 0.01017791017f,
    -0.008911909181f, 0.01292822566f};
template <> inline constexpr double lune_poly<double>[] = {
    0.8488263631567751246, 0.08488263631567672806, 0.02728370453022684821,
    0.01263134467207178197, 0.007033363269663798180, 0.004382298946646817778,
    0.002946435451131179980, 0.002084280267705098359, 0.001625017365873601225,
    0.0006039928102552700041, 0.004230527825997994015, -0.01355642258409381388,
    0.04778874771729586123, -0.1173340734138351546, 0.2198619504610260652,
    -0.2956495734871346394, 0.2747207725853107961, -0.1572721650733804454,
    0.04316944724945223812};
template <class T> inline constexpr T exp_poly[] = {0};
template <> inline constexpr float exp_poly<float>[] = {
    0.5000000013f, 0.1666666668f, 0.04166646501f,
    0.008333310934f, 0.001393364103f, 0.0001989098087f};
template <> inline constexpr double exp_poly<double>[] = {
    0.5000000000000000000, 0.1666666666666666667, 0.04166666666666667676,
    0.008333333333333334006, 0.001388888888887908184, 0.0001984126984126330436,
    0.00002480158733642132257, 2.755731924720479028e-6, 2.755726330147475452e-7,
    2.505207110921444829e-8, 2.091812945496706574e-9, 1.608662243621555343e-10};

template <class T, int N>
KR_INLINE T horner(const T (&c)[N], T z) {
  T v = c[N - 1];
#pragma GCC unroll 32
  for (int k = N - 2; k >= 0; --k) v = v * z + c[k];
  return v;
}

KR_INLINE float root(float x) { return __builtin_sqrtf(x); }
KR_INLINE double root(double x) { return __builtin_sqrt(x); }

template <class T> KR_INLINE T min_(T a, T b) { return a < b ? a : b; }
template <class T> KR_INLINE T max_(T a, T b) { return a > b ? a : b; }
template <class T> KR_INLINE T abs_(T a) { return a < T(0) ? -a : a; }

// Angle whose cosine is 1 - gap, for gap in [0, 1].
template <class T> KR_INLINE T arc_(T gap) {
  T z = max_(gap, T(0)) * T(0.5);
  return root(z) * horner(arc_poly<T>, z);
}

// (sin a - a cos a) / pi with a = arc(gap): the part of ReLU's correlation that is not linear.
template <class T> KR_INLINE T lune_(T gap) {
  T z = max_(gap, T(0)) * T(0.5);
  return z * root(z) * horner(lune_poly<T>, z);
}

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
  tail = r + r * r * horner(exp_poly<T>, r);
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
