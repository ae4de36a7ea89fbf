// What rows of a symmetric matrix, and by symmetry their columns, give to a product with a few
// vectors: each entry is read once and used twice, and all sums are in double.

constexpr int64_t kStrip = 1024;  // columns that stay in cache while all rows go over them

// ROWS rows of a strip and N vectors.
template <class T, int ROWS, int N, bool MIRRORED>
void sweep(const HalfJob &job, int64_t row, int64_t a, int64_t b, int64_t first, double *sums) {
  using vec = typename simd<double>::vec;
  constexpr int L = simd<double>::lanes;
  typedef T part __attribute__((vector_size(L * sizeof(T)), aligned(alignof(T))));
  const T *K = static_cast<const T *>(job.panel) + row * job.ld;
  const double *source = job.source + first * job.n;
  double *target = job.target + first * job.n;
  vec sum[ROWS][N] = {};
  double factor[ROWS][N];
  for (int r = 0; r < ROWS; ++r)
    for (int t = 0; t < N; ++t) factor[r][t] = source[t * job.n + job.i0 + row + r];
  int64_t j = a;
  for (; j + L <= b; j += L) {
    vec entry[ROWS];
#pragma GCC unroll 4
    for (int r = 0; r < ROWS; ++r)
      entry[r] = __builtin_convertvector(*(const part *)(K + r * job.ld + j), vec);
#pragma GCC unroll 4
    for (int t = 0; t < N; ++t) {
      vec v = *(const vec *)(source + t * job.n + j);
      vec z = MIRRORED ? *(const vec *)(target + t * job.n + j) : vec{};
#pragma GCC unroll 4
      for (int r = 0; r < ROWS; ++r) {
        sum[r][t] += entry[r] * v;
        if (MIRRORED) z += entry[r] * factor[r][t];
      }
      if (MIRRORED) *(vec *)(target + t * job.n + j) = z;
    }
  }
  for (int r = 0; r < ROWS; ++r)
    for (int t = 0; t < N; ++t) {
      double total = 0;
      for (int l = 0; l < L; ++l) total += sum[r][t][l];
      for (int64_t k = j; k < b; ++k) {
        double entry = double(K[r * job.ld + k]);
        total += entry * source[t * job.n + k];
        if (MIRRORED) target[t * job.n + k] += entry * factor[r][t];
      }
      sums[(first + t) * (job.i1 - job.i0) + row + r] = total;
    }
}

template <class T, int N, bool MIRRORED>
void strip(const HalfJob &job, int64_t a, int64_t b, int64_t first, double *sums) {
  int64_t rows = job.i1 - job.i0, row = 0;
  for (; row + 4 <= rows; row += 4) sweep<T, 4, N, MIRRORED>(job, row, a, b, first, sums);
  for (; row < rows; ++row) sweep<T, 1, N, MIRRORED>(job, row, a, b, first, sums);
}

template <class T, bool MIRRORED>
void strip_of_all(const HalfJob &job, int64_t a, int64_t b, double *sums) {
  int64_t t = 0;
  for (; t + 4 <= job.vectors; t += 4) strip<T, 4, MIRRORED>(job, a, b, t, sums);
  for (; t + 2 <= job.vectors; t += 2) strip<T, 2, MIRRORED>(job, a, b, t, sums);
  for (; t < job.vectors; ++t) strip<T, 1, MIRRORED>(job, a, b, t, sums);
}

template <class T> void multiply_half(const HalfJob &job) {
  // The square on the diagonal is whole and has no mirror image. Sums of a row are added strip by
  // strip in the end, so that they are the same on any number of threads.
  std::vector<int64_t> starts;
  for (int64_t j = 0; j < job.i0; j += kStrip) starts.push_back(j);
  int64_t mirrored = int64_t(starts.size());
  for (int64_t j = job.i0; j < job.i1; j += kStrip) starts.push_back(j);
  int64_t rows = job.i1 - job.i0, count = int64_t(starts.size());
  std::vector<double> sums(size_t(count * job.vectors * rows));
  std::atomic<int64_t> next{0};
  auto worker = [&] {
    for (int64_t k; (k = next.fetch_add(1)) < count;) {
      int64_t a = starts[k], b = std::min(a + kStrip, k < mirrored ? job.i0 : job.i1);
      double *own = sums.data() + k * job.vectors * rows;
      k < mirrored ? strip_of_all<T, true>(job, a, b, own) : strip_of_all<T, false>(job, a, b, own);
    }
  };
  run_threads(worker, job.threads, count, job.parallel);
  for (int64_t k = 0; k < count; ++k)
    for (int64_t t = 0; t < job.vectors; ++t)
      for (int64_t r = 0; r < rows; ++r)
        job.target[t * job.n + job.i0 + r] += sums[(k * job.vectors + t) * rows + r];
}
