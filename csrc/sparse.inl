// Inner products of sparse rows with the columns of a strip. The features that the columns have are
// numbered anew, so that packed columns are as long as those are many, whatever the width of the
// data; what a row has beyond them meets only zeros.

template <class T> struct SparseStrip {
  static constexpr int kPanels = 4;  // register blocks at a time, which hides the time of a sum

  const Side &columns;
  std::vector<int32_t> number;      // of a feature among those of the columns, or -1
  std::vector<int32_t> features;
  std::vector<int32_t> at;          // what a row shares with the columns
  std::vector<T> value;

  SparseStrip(const Side &c, int64_t d) : columns(c), number(size_t(d), -1) {}

  // Takes the columns [j, j + cols); the number of their features.
  int64_t take(int64_t j, int cols) {
    for (int32_t f : features) number[f] = -1;
    features.clear();
    for (int64_t k = columns.start[j]; k < columns.start[j + cols]; ++k) {
      int32_t f = columns.index[k];
      if (number[f] >= 0) continue;
      number[f] = int32_t(features.size());
      features.push_back(f);
    }
    return int64_t(features.size());
  }

  // Features [k0, k0 + depth) of the columns as the dense product packs them.
  void pack(int64_t j, int cols, int64_t k0, int64_t depth, T *out) const {
    int64_t wide = (cols + NR<T> - 1) / NR<T> * NR<T>;
    std::fill_n(out, wide * depth, T(0));
    const T *X = static_cast<const T *>(columns.X);
    for (int c = 0; c < cols; ++c) {
      T *panel = out + int64_t(c / NR<T>) * NR<T> * depth + c % NR<T>;
      for (int64_t k = columns.start[j + c]; k < columns.start[j + c + 1]; ++k) {
        int64_t f = number[columns.index[k]] - k0;
        if (f >= 0 && f < depth) panel[f * NR<T>] = X[k];
      }
    }
  }

  template <int PANELS>
  void sums(const T *packed, int64_t depth, T *C, bool add) const {
    using vec = typename simd<T>::vec;
    constexpr int L = simd<T>::lanes;
    vec acc[PANELS][2];
#pragma GCC unroll 4
    for (int p = 0; p < PANELS; ++p)
      for (int h = 0; h < 2; ++h)
        acc[p][h] = add ? *(const vec *)(C + p * NR<T> + h * L) : vec{};
    for (size_t k = 0; k < at.size(); ++k) {
      const T *b = packed + int64_t(at[k]) * NR<T>;
      T a = value[k];
#pragma GCC unroll 4
      for (int p = 0; p < PANELS; ++p) {
        acc[p][0] += a * *(const vec *)(b + p * NR<T> * depth);
        acc[p][1] += a * *(const vec *)(b + p * NR<T> * depth + L);
      }
    }
#pragma GCC unroll 4
    for (int p = 0; p < PANELS; ++p)
      for (int h = 0; h < 2; ++h) *(vec *)(C + p * NR<T> + h * L) = acc[p][h];
  }

  // Row i of `rows` with packed features [k0, k0 + depth) of `cols` columns.
  void multiply(const Side &rows, int64_t i, const T *packed, int cols, int64_t k0, int64_t depth,
                T *C, bool add) {
    at.clear();
    value.clear();
    const T *X = static_cast<const T *>(rows.X);
    for (int64_t k = rows.start[i]; k < rows.start[i + 1]; ++k) {
      int64_t f = number[rows.index[k]] - k0;
      if (f < 0 || f >= depth) continue;
      at.push_back(int32_t(f));
      value.push_back(X[k]);
    }
    int panels = int((cols + NR<T> - 1) / NR<T>), p = 0;
    for (; p + kPanels <= panels; p += kPanels)
      sums<kPanels>(packed + int64_t(p) * NR<T> * depth, depth, C + p * NR<T>, add);
    for (; p < panels; ++p) sums<1>(packed + int64_t(p) * NR<T> * depth, depth, C + p * NR<T>, add);
  }
};

// Sum of (a - sign b)^2 / 2 of two sparse rows of T, whose features are in order.
template <class T, class U>
U half_distance(const Side &rows, int64_t i, const Side &columns, int64_t j, U sign) {
  const T *a = static_cast<const T *>(rows.X), *b = static_cast<const T *>(columns.X);
  int64_t k = rows.start[i], k1 = rows.start[i + 1];
  int64_t l = columns.start[j], l1 = columns.start[j + 1];
  U sum = 0;
  while (k < k1 || l < l1) {
    int32_t f = k < k1 ? rows.index[k] : INT32_MAX, g = l < l1 ? columns.index[l] : INT32_MAX;
    U t = (f <= g ? U(a[k++]) : U(0)) - (g <= f ? sign * U(b[l++]) : U(0));
    sum += t * t;
  }
  return U(0.5) * sum;
}
