// Pairs of rows with their derivatives by the correlation at the input, and by the logarithms of the
// standard deviations there of the first row, and of the second.
//
// Three directions make nine numbers: those of the state, then the derivatives of correlation and
// tangent kernel in each direction. Derivatives of rows' own deviations, `growth`, stand behind the
// other numbers of rows.

#include "generated/slopes.inl"

constexpr int kJet = 9;           // numbers of a jet
constexpr int kJetRegisters = 3;  // instructions' room for where they lie

// Where they lie before and behind an instruction.
template <class T> struct JetBlock {
  const T *from[kJet];
  T *to[kJet];
  JetBlock(T (*regs)[kBlock], const int32_t *at) {
    for (int m = 0; m < kJet; ++m) from[m] = regs[at[m]], to[m] = regs[at[kJet + m]];
  }
};

// A nonlinearity with a closed form.
template <class D, class T>
void jet_dual(const JetBlock<T> &jet, const T *x, int64_t ldx, const T *y, int64_t ldy,
              const T *constants, int n) {
  T c[D::scalars + 1], xs[D::rows1 + 1];
  for (int k = 0; k < D::scalars; ++k) c[k] = constants[k];
  for (int k = 0; k < D::rows1; ++k) xs[k] = x[k * ldx];
  T growth = x[D::rows1 * ldx];
  const T *growths = y + D::rows2 * ldy;
#pragma GCC ivdep
  for (int j = 0; j < n; ++j) {
    T ys[D::rows2 + 1], in[kJet], v[8] = {};
#pragma GCC unroll 32
    for (int k = 0; k < D::rows2; ++k) ys[k] = y[k * ldy + j];
#pragma GCC unroll 9
    for (int m = 0; m < kJet; ++m) in[m] = jet.from[m][j];
    T rho = in[0], tau = in[2], other = growths[j];
    D::eval(rho, in[1], c, xs, ys, v);
    jet.to[0][j] = v[0], jet.to[1][j] = v[1], jet.to[2][j] = v[2] * tau;
#pragma GCC unroll 3
    for (int k = 0; k < 3; ++k) {
      T by_rho = in[3 + 2 * k], by_tau = in[4 + 2 * k];
      T turned = v[2] * by_rho, slope = v[3] * by_rho;
      if (D::logs && k > 0) {
        T grown = k == 1 ? growth : other;
        turned += v[3 + k] * grown, slope += v[5 + k] * grown;
      }
      jet.to[3 + 2 * k][j] = turned;
      jet.to[4 + 2 * k][j] = v[2] * by_tau + slope * tau;
    }
  }
}

// A dense layer: without a bias, with one, or in the "standard" parameterization. The logarithm of
// `u` changes by v^2 with that of the deviation, that of `v` by -u^2.
enum DenseKind { no_bias, with_bias, own_scales };

template <int KIND, class T>
void jet_dense(const JetBlock<T> &jet, const T *x, int64_t ldx, const T *y, int64_t ldy, int n) {
  constexpr bool BIAS = KIND != no_bias;
  constexpr int last = KIND == own_scales ? 4 : BIAS ? 2 : 1;
  T ui = x[0], vi = BIAS ? x[ldx] : T(0), growth = x[last * ldx];
  T gi = KIND == own_scales ? x[2 * ldx] : T(0), hi = KIND == own_scales ? x[3 * ldx] : T(0);
  const T *growths = y + last * ldy;
#pragma GCC ivdep
  for (int j = 0; j < n; ++j) {
    T in[kJet];
#pragma GCC unroll 9
    for (int m = 0; m < kJet; ++m) in[m] = jet.from[m][j];
    T uj = y[j], vj = BIAS ? y[ldy + j] : T(0), other = growths[j];
    T uu = ui * uj, both = vi * vj, own = uu, own_bias = both;
    State<T> s{in[0], in[1], in[2]};
    mix<false, BIAS>(s, ui, uj, vi, vj);
    if (KIND == own_scales) {
      own = gi * y[2 * ldy + j], own_bias = hi * y[3 * ldy + j];
      s.tau = own * in[0] + own_bias + uu * in[2];
    }
    jet.to[0][j] = s.rho, jet.to[1][j] = s.gap, jet.to[2][j] = s.tau;
#pragma GCC unroll 3
    for (int k = 0; k < 3; ++k) {
      T by_rho = in[3 + 2 * k], by_tau = in[4 + 2 * k];
      T turned = uu * by_rho, trained = own * by_rho + uu * by_tau;
      if (k > 0 && BIAS) {
        T grown = k == 1 ? growth : other, u = k == 1 ? ui * ui : uj * uj, v = k == 1 ? vi * vi : vj * vj;
        turned += (uu * in[0] * v - both * u) * grown;
        trained += (own * in[0] * v - own_bias * u + uu * in[2] * v) * grown;
      }
      jet.to[3 + 2 * k][j] = turned;
      jet.to[4 + 2 * k][j] = trained;
    }
  }
}

template <class T>
void jet_dense(int kind, const JetBlock<T> &jet, const T *x, int64_t ldx, const T *y, int64_t ldy, int n) {
  if (kind == no_bias) return jet_dense<no_bias>(jet, x, ldx, y, ldy, n);
  if (kind == with_bias) return jet_dense<with_bias>(jet, x, ldx, y, ldy, n);
  jet_dense<own_scales>(jet, x, ldx, y, ldy, n);
}

// An instruction of jets, behind which stand the registers.
template <class T>
void run_jet(const Instr &I, T (*regs)[kBlock], const T *x, int64_t ldx, const T *y, int64_t ldy,
             const T *consts, int n) {
  JetBlock<T> jet(regs, reinterpret_cast<const int32_t *>(&I + 1));
  if (I.op == op_jet_dense) return jet_dense(I.b, jet, x, ldx, y, ldy, n);
  switch (I.op - op_jet) {
#define KR_SLOPE(k) \
  case k: jet_dual<Slopes##k<T>>(jet, x, ldx, y, ldy, consts + I.c, n); break;
    KR_SLOPES
#undef KR_SLOPE
  }
}
