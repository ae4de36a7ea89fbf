// Instructions of a kernel program on one pair of rows, in float64.

// Tables of a pair: slot k holds one number of its row and one of its column.
struct Slots {
  const double *x, *y;
  int64_t ldx, ldy;
  KR_MEMBER double row(int64_t k) const { return x[k * ldx]; }
  KR_MEMBER double column(int64_t k) const { return y[k * ldy]; }
  // The tables from slot kx of the row and slot ky of the column on.
  KR_MEMBER Slots at(int64_t kx, int64_t ky) const {
    return {x + kx * ldx, y + ky * ldy, ldx, ldy};
  }
};

template <class D, int DENSE, bool NONNEGATIVE, bool POSITIVE>
KR_INLINE State<double> dual_step(const State<double> &s, const Slots &t, const double *c) {
  double xs[D::rows1 + 1], ys[D::rows2 + 1];
#pragma unroll
  for (int k = 0; k < D::rows1; ++k) xs[k] = t.row(k);
#pragma unroll
  for (int k = 0; k < D::rows2; ++k) ys[k] = t.column(k);
  double ui = DENSE ? t.row(D::rows1) : 0.0, uj = DENSE ? t.column(D::rows2) : 0.0;
  double vi = DENSE == 2 ? t.row(D::rows1 + 1) : 0.0;
  double vj = DENSE == 2 ? t.column(D::rows2 + 1) : 0.0;
  double gap;
  if (D::two_ways) {
    State<double> t =
        dual_pair<D, DENSE, NONNEGATIVE, POSITIVE, false>(s, c, xs, ys, ui, uj, vi, vj, gap);
    if (!(gap < kClose<double>)) return t;
  }
  return dual_pair<D, DENSE, NONNEGATIVE, POSITIVE, true>(s, c, xs, ys, ui, uj, vi, vj, gap);
}

template <bool BIAS, bool STANDARD>
KR_INLINE State<double> dense_step(State<double> s, const Slots &t) {
  double before = s.rho, trained = s.tau, ui = t.row(0), uj = t.column(0);
  mix<false, BIAS>(s, ui, uj, BIAS ? t.row(1) : 0.0, BIAS ? t.column(1) : 0.0);
  if (STANDARD) {
    Slots g = t.at(1 + BIAS, 1 + BIAS);
    s.tau = standard(before, trained, ui, uj, g.row(0), g.column(0), g.row(1), g.column(1));
  }
  return s;
}

KR_INLINE State<double> sum_step(const State<double> &a, const State<double> &b, const Slots &t) {
  return sum_pair(a, b, t.row(0), t.column(0), t.row(1), t.column(1));
}

// rho' = sum_m a_m(i) a_m(j) rho^m: a nonlinearity by its Hermite coefficients per row, and a factor
// on the derivative behind them. The values of Horner's scheme add up to the factor on the gap.
KR_INLINE State<double> series_step(const State<double> &s, const Slots &t, double parity,
                                    int terms) {
  double value = 0.0, slope = 0.0, growth = 0.0, apart = 0.0, rho = series_at(s.rho, parity);
  for (int m = terms - 1; m >= 0; --m) {
    double a = t.row(m), b = t.column(m);
    slope = slope * rho + value;
    growth += value;
    value = value * rho + a * b;
    apart += 0.5 * (a - b) * (a - b);
  }
  return series_pair(s, parity, value, slope * (t.row(terms) * t.column(terms)), growth, apart);
}

// A Chebyshev series at `at` / 2, by Clenshaw's recurrence.
KR_INLINE double clenshaw(double at, const double *c, int terms) {
  double p1 = 0.0, p2 = 0.0;
  for (int m = terms - 1; m > 0; --m) {
    double p = at * p1 + (c[m] - p2);
    p2 = p1;
    p1 = p;
  }
  return 0.5 * at * p1 + (c[0] - p2);
}

// Many layers as two Chebyshev series in the angle.
KR_INLINE State<double> profile_step(const State<double> &s, const double *c, int terms) {
  double at = chebyshev_at(s.rho, s.gap), rho = clenshaw(at, c, terms);
  return profile_pair(s, rho, clenshaw(at, c + terms, terms));
}

// The same recurrence with coefficients that are bilinear in the weights which row and column give
// to the nodes. All lanes of a warp are at one row: each mixes coefficients of that row for all.
KR_INLINE double bilinear_clenshaw(double at, const Slots &t, const double *c, int terms,
                                   int nodes) {
  double p1 = 0.0, p2 = 0.0;
  for (int m = terms - 1; m >= 0; --m) {
    double value = 0.0;
    for (int first = 0; first < nodes; first += kLanes) {
      int b = first + int(threadIdx.x) % kLanes;
      double mixed = 0.0;
      if (b < nodes)
        for (int a = 0; a < nodes; ++a) mixed += t.row(a) * c[(m * nodes + a) * nodes + b];
      int count = min_(nodes - first, kLanes);
      for (int k = 0; k < count; ++k) value += from_lane(mixed, k) * t.column(first + k);
    }
    double p = (m > 0 ? at : 0.5 * at) * p1 + (value - p2);
    p2 = p1;
    p1 = p;
  }
  return p1;
}

// A nonlinearity between rows of different norms, by series in the angle. The tables go on with
// what the gap of parallel rows is made of, and with a factor on the derivative.
KR_INLINE State<double> angles_step(const State<double> &s, const Slots &t, const double *c,
                                    int terms, int nodes) {
  int size = terms * nodes * nodes;
  double parity = *c++, at = chebyshev_at(series_at(s.rho, parity), s.gap);
  double value = bilinear_clenshaw(at, t, c, terms, nodes);
  double slope = bilinear_clenshaw(at, t, c + size, terms, nodes);
  double growth = bilinear_clenshaw(at, t, c + 2 * size, terms, nodes), apart = 0.0;
  for (int b = nodes; b < 2 * nodes; ++b) {
    double difference = t.row(b) - t.column(b);
    apart += 0.5 * difference * difference;
  }
  slope *= t.row(2 * nodes) * t.column(2 * nodes);
  return series_pair(s, parity, value, slope, growth, apart);
}
