// What a pooling or a stride leaves: lines of one size of images are added into lines of the next.

// Positions [y0, y1) x [x0, x1) that are all displaced by (dy, dx).
struct Rectangle { int64_t dy, dx, y0, y1, x0, x1; };

// a / b, rounded up or down.
inline int64_t divided(int64_t a, int64_t b, bool up) {
  int64_t q = a / b, r = a % b;
  return q + (up ? r > 0 : -(r < 0));
}

// Every other position of a line or the sum of two. Nothing is added behind the last one, where a
// vector ends.
template <bool TWO, class T>
void add_halves(Plane<T> to, int64_t next, const T *D, const T *N, int64_t step, int64_t line,
                int64_t count, int n) {
  int end = (n + 7) / 8 * 8;
  for (int64_t v = 0; v < count; ++v, D += step, N += step, to.D += next, to.N += next) {
#pragma GCC ivdep
    for (int m = 0; m < end; ++m) {
      T a = D[2 * m], b = N[2 * m];
      if (TWO) a += D[2 * m + line], b += N[2 * m + line];
      to.D[m] += m < n ? a : T(0);
      to.N[m] += m < n ? b : T(0);
    }
  }
}

// Adds `lines` lines for each of `count` lines of the next stage, one in so many positions; `line`
// and `next` are cells of a line before and behind.
template <class T>
void add_windows(Plane<T> to, int64_t next, const T *D, const T *N, int64_t line,
                 const int64_t *strides, int64_t count, int64_t lines, int n) {
  int64_t step = strides[0] * line, across = strides[1];
  if (across == 2 && lines == 2) return add_halves<true>(to, next, D, N, step, line, count, n);
  if (across == 2 && lines == 1) return add_halves<false>(to, next, D, N, step, line, count, n);
  for (int64_t v = 0; v < count; ++v, D += step, N += step, to.D += next, to.N += next)
    for (int64_t w = 0; w < lines; ++w)
      for (int m = 0; m < n; ++m) {
        to.D[m] += D[w * line + across * m];
        to.N[m] += N[w * line + across * m];
      }
}
