// What instructions do to planes of a covariance; plane.inl has how these are laid out and run.
//
// `inline` as if they stood in the class: the compiler inlines less without it.

template <class T>
inline void Planes<T>::add_up(const T *v, const int64_t *offset, int64_t count, T *out, int64_t from,
                              int64_t to) {
  if (count == 3) {
    int64_t a = offset[0], b = offset[1], c = offset[2];
#pragma GCC ivdep
    for (int64_t m = from; m < to; ++m) out[m] = v[m + a] + v[m + b] + v[m + c];
    return;
  }
  int64_t a = offset[0];
#pragma GCC ivdep
  for (int64_t m = from; m < to; ++m) out[m] = v[m + a];
  for (int64_t q = 1; q < count; ++q) {
    a = offset[q];
#pragma GCC ivdep
    for (int64_t m = from; m < to; ++m) out[m] += v[m + a];
  }
}

// Sums over offsets between lines, for `margin` cells more at both ends.
template <class T>
inline void Planes<T>::box(Plane<T> in, Plane<T> out, const int64_t *geometry) const {
  const int64_t margin = geometry[0], count = geometry[1], *offset = geometry + 2;
  for (T *v : {in.D, in.N}) wrap(v);
  add_up(in.D, offset, count, out.D, -margin, cells + margin);
  add_up(in.N, offset, count, out.N, -margin, cells + margin);
}

// A filter and a dense layer where no nonlinearity follows at once; `geometry` holds offsets
// within lines. A filter that differs from place to place leaves no covariance between places.
template <class T>
inline void Planes<T>::mix(const Instr &I, Plane<T> in, Plane<T> out, const T *c,
                           const int64_t *geometry) const {
  T scale = c[0], rest = c[1], own = c[2], bias = c[3];
  const T *p = x, *q = y;
  if (I.n && !(shift == 0 && turn == 0)) {
    for (int64_t m = 0; m < whole; ++m) {
      out.D[m] = (p[m] * p[m] + q[m] * q[m]);
      out.N[m] = T(0);
    }
    return;
  }
  add_up(in.D, geometry + 1, geometry[0], out.D, 0, whole);
  add_up(in.N, geometry + 1, geometry[0], out.N, 0, whole);
#pragma GCC ivdep
  for (int64_t m = 0; m < whole; ++m) {
    T D = scale * out.D[m] + rest * out.D[m];
    out.N[m] = scale * out.N[m] + rest * out.N[m] + own * ((p[m] * p[m] + q[m] * q[m]) - D) + bias;
    out.D[m] = D;
  }
}

// Pixels: the distance is a sum of squares of differences.
template <class T> template <int CHANNELS>
inline void Planes<T>::few_pixels(Plane<T> out) const {
#pragma GCC ivdep
  for (int64_t m = 0; m < whole; ++m) {
    T sum = 0;
#pragma GCC unroll 4
    for (int64_t c = 0; c < CHANNELS; ++c) {
      T d = x[c * ldx + m] - y[c * ldy + m];
      sum += d * d;
    }
    out.D[m] = sum, out.N[m] = T(0);
  }
}

template <class T>
inline void Planes<T>::pixels(Plane<T> out, int64_t channels) const {
  if (channels == 1) return few_pixels<1>(out);
  if (channels == 3) return few_pixels<3>(out);
  few_pixels<0>(out);
  for (int64_t c = 0; c < channels; ++c) {
    const T *p = x + c * ldx, *q = y + c * ldy;
    T *E = out.D;
#pragma GCC ivdep
    for (int64_t m = 0; m < whole; ++m) {
      T d = p[m] - q[m];
      E[m] += d * d;
    }
  }
}

// What the stage before has left. Parts that share weights (pooling) come with the distances
// within either image, which are taken off, and with what is lost at edges.
template <class T>
inline void Planes<T>::take(const Instr &I, Plane<T> out, const T *c) {
  int64_t at = stage->circular ? turn * stage->lines + shift / stage->line : shift;
  const T *D = landed(k, I.a, 0) + at * cells, *N = landed(k, I.a, 1) + at * cells;
  T scale = c[0], own = c[2], bias = c[3];
  const T *p = x, *q = y;
  if (I.n == 0) {
#pragma GCC ivdep
    for (int64_t m = 0; m < whole; ++m) {
      T e = scale * D[m];
      out.D[m] = e;
      out.N[m] = scale * N[m] + own * ((p[m] * p[m] + q[m] * q[m]) - e) + bias;
    }
    return;
  }
  const T *share1 = p + ldx, *size1 = share1 + ldx, *weight1 = size1 + ldx;
  const T *share2 = q + ldy, *size2 = share2 + ldy, *weight2 = size2 + ldy;
#pragma GCC ivdep
  for (int64_t m = 0; m < whole; ++m) {
    T a = weight1[m], b = weight2[m];
    T edge = (share1[m] - share2[m]) * (size1[m] - size2[m]) - (a - b) * (a * p[m] - b * q[m]);
    // What both images share cancels exactly where they are equal.
    out.D[m] = max_(T(0), a * b * ((D[m] - p[m]) - q[m]) + edge);
    out.N[m] = a * b * N[m];
  }
}

// Deviations anew: of dead cells, behind LayerNorm, and behind dropout.
template <class T>
inline void Planes<T>::reset(const Instr &I, Plane<T> in, Plane<T> out) const {
  const T *s = x, *si = x + ldx, *u = x + 2 * ldx, *t = y, *ti = y + ldy, *v = y + 2 * ldy;
#pragma GCC ivdep
  for (int64_t m = 0; m < whole; ++m) {
    Cells<T> p{s[m], t[m], si[m] * ti[m]}, q{u[m], v[m], T(0)};
    T ratio = q.twice() * p.inverse;
    T opposite = p.opposite(in.D[m]);
    out.D[m] = q.distance(opposite);
    out.N[m] = ratio * in.N[m];
  }
}

template <class T>
inline void Planes<T>::dropout(const Instr &I, Plane<T> in, Plane<T> out, T keep) const {
  bool own = same && shift == 0 && turn == 0;
  T more = own ? T(0) : T(1) / keep - T(1), factor = own ? T(1) / keep : T(1);
  const T *s = x, *t = y;
#pragma GCC ivdep
  for (int64_t m = 0; m < whole; ++m) {
    out.D[m] = in.D[m] + more * (s[m] * s[m] + t[m] * t[m]);
    out.N[m] = factor * in.N[m];
  }
}

template <class T>
inline void Planes<T>::sum(Plane<T> a, Plane<T> b, Plane<T> out, T wa, T wb) const {
#pragma GCC ivdep
  for (int64_t m = 0; m < whole; ++m) {
    out.D[m] = wa * a.D[m] + wb * b.D[m];
    out.N[m] = wa * a.N[m] + wb * b.N[m];
  }
}

template <class T>
inline void Planes<T>::product(Plane<T> a, Plane<T> b, Plane<T> out) const {
  const T *s = x, *si = x + ldx, *u = x + 2 * ldx, *ui = x + 3 * ldx;
  const T *t = y, *ti = y + ldy, *v = y + 2 * ldy, *vi = y + 3 * ldy;
#pragma GCC ivdep
  for (int64_t m = 0; m < whole; ++m) {
    Cells<T> p{s[m], t[m], si[m] * ti[m]}, q{u[m], v[m], ui[m] * vi[m]};
    Cells<T> r{p.s * q.s, p.t * q.t, T(0)};
    T g = p.opposite(a.D[m]), h = q.opposite(b.D[m]);
    T N = a.N[m] * q.s * q.t * (T(1) - h) + p.s * p.t * (T(1) - g) * b.N[m];
    out.D[m] = r.distance(g + h - g * h);
    out.N[m] = N;
  }
}

// Behind a nonlinearity that is a Hermite series in both positions.
template <class T>
inline void Planes<T>::series(const Instr &I, Plane<T> in, Plane<T> out, const T *c) const {
  const T *xs = x + 3 * ldx, *ys = y + 3 * ldy;
  T parity = c[0];
  constexpr int W = 32;
  for (int64_t m0 = 0; m0 < cells; m0 += W) {
    int live = int(cells - m0 < W ? cells - m0 : W);
    alignas(64) T at[W], opp[W], value[W] = {}, slope[W] = {}, growth[W] = {}, apart[W] = {};
    for (int m = 0; m < W; ++m) {
      int64_t e = m0 + (m < live ? m : 0);
      Cells<T> p{x[e], y[e], x[ldx + e] * y[ldy + e]};
      opp[m] = p.opposite(in.D[e]);
      at[m] = series_at(T(1) - opp[m], parity);
    }
    for (int term = I.n - 1; term >= 0; --term) {
      const T *a = xs + term * ldx + m0, *b = ys + term * ldy + m0;
#pragma GCC ivdep
      for (int m = 0; m < W; ++m) {
        T u = a[m], v = b[m], d = u - v;
        slope[m] = slope[m] * at[m] + value[m];
        growth[m] += value[m];
        value[m] = value[m] * at[m] + u * v;
        apart[m] += d * d;
      }
    }
    const T *fx = xs + I.n * ldx + m0, *fy = ys + I.n * ldy + m0;
#pragma GCC ivdep
    for (int m = 0; m < live; ++m) {
      int64_t e = m0 + m;
      T inverse = x[ldx + e] * y[ldy + e];
      State<T> p{T(1) - opp[m], min_(opp[m], T(2) - opp[m]), in.N[e] * inverse};
      p = series_pair(p, parity, value[m], slope[m] * (fx[m] * fy[m]), growth[m], T(0.5) * apart[m]);
      Cells<T> q{x[2 * ldx + e], y[2 * ldy + e], T(0)};
      out.D[e] = q.distance(opposite_of(p));
      out.N[e] = q.twice() * p.tau;
    }
  }
}

// Windows of positions become single ones of the next stage.
template <class T>
inline void Planes<T>::land(const Instr &I, Plane<T> in, const int64_t *g) {
  int64_t height = g[0], width = g[1], high = g[6], wide = g[7];
  const int64_t *window = g + 2, *strides = g + 4, *low = g + 8;
  const PlaneStage &next = job.stages[k + 1];
  rectangles(height, width, [&](const Rectangle &r) {
    for (int64_t DY = divided(r.dy - window[0] + 1, strides[0], true);
         DY <= divided(r.dy + window[0] - 1, strides[0], false); ++DY)
      for (int64_t DX = divided(r.dx - window[1] + 1, strides[1], true);
           DX <= divided(r.dx + window[1] - 1, strides[1], false); ++DX) {
        if (DY <= -high || DY >= high || DX <= -wide || DX >= wide) continue;
        int64_t at = number(next, DY, DX) * next.cells() + next.origin;
        int64_t ey = strides[0] * DY - r.dy, ex = strides[1] * DX - r.dx;
        int64_t first = max_(int64_t(0), ey), last = window[0] + min_(int64_t(0), ey);
        for (int64_t wx = max_(int64_t(0), ex); wx < window[1] + min_(int64_t(0), ex); ++wx) {
          // Positions of the next stage whose window has a cell there, in this rectangle.
          int64_t X0 = max_(divided(r.x0 - wx + low[1], strides[1], true), max_(int64_t(0), -DX));
          int64_t X1 = min_(divided(r.x1 - 1 - wx + low[1], strides[1], false) + 1,
                            min_(wide, wide - DX));
          if (X0 >= X1) continue;
          int64_t begin = stage->origin + strides[1] * X0 + wx - low[1];
          int64_t Y = max_(int64_t(0), -DY), Y1 = min_(high, high - DY);
          while (Y < Y1) {
            // Lines of the window that are in this rectangle, and how often it is all of them.
            int64_t line = strides[0] * Y - low[0], count = 1;
            int64_t w0 = max_(first, r.y0 - line), w1 = min_(last, r.y1 - line);
            if (w0 == first && w1 == last)
              count = max_(count, min_(Y1, divided(r.y1 - last + low[0], strides[0], false) + 1) - Y);
            if (w0 < w1) {
              const T *D = in.D + begin + (line + w0) * stage->line, *N = in.N + (D - in.D);
              int64_t to = at + Y * next.line + X0;
              add_windows<T>({landed(k + 1, I.dst, 0) + to, landed(k + 1, I.dst, 1) + to}, next.line,
                             D, N, stage->line, strides, count, w1 - w0, int(X1 - X0));
            }
            Y += count;
          }
        }
      }
  });
}

// A weighted sum over all pairs of positions, the weights a product of those of both axes.
template <class T>
inline void Planes<T>::read_out(const Instr &I, Plane<T> in, const T *weights, const int64_t *g) {
  int64_t height = g[0], width = g[1];
  const T *of_lines = weights, *in_lines = weights + height * height;
  rectangles(height, width, [&](const Rectangle &r) {
    const T *w = in_lines + (r.dx + width - 1) * width + r.x0;
    T *e = sums.D, *n = sums.N;
    int64_t wide = r.x1 - r.x0, end = (wide + 7) / 8 * 8;
    for (int64_t u = 0; u < end; ++u) e[u] = n[u] = T(0);
    for (int64_t v = r.y0; v < r.y1; ++v) {
      T factor = of_lines[v * height + v + r.dy];
      if (factor == T(0)) continue;
      const T *E = in.D + stage->origin + v * stage->line + r.x0, *N = in.N + (E - in.D);
#pragma GCC ivdep
      for (int64_t u = 0; u < end; ++u) {
        e[u] += factor * E[u];
        n[u] += factor * N[u];
      }
    }
    double distance = 0, trained = 0;
    for (int64_t u = 0; u < wide; ++u) {
      distance += double(w[u]) * double(e[u]);
      trained += double(w[u]) * double(n[u]);
    }
    readout[2 * I.dst] += distance;
    readout[2 * I.dst + 1] += trained;
  });
}
