// C tile = A B^T for row-major A and B, in blocks that stay in registers and in L2.

template <class T> struct simd {
  typedef T vec __attribute__((vector_size(KR_VECTOR_BYTES), aligned(alignof(T))));
  static constexpr int lanes = KR_VECTOR_BYTES / sizeof(T);
};

constexpr int MR = KR_MR;  // rows of a register block
template <class T> constexpr int NR = 2 * simd<T>::lanes;

// Rows [0, cols) of B, columns [0, depth): panels of NR rows, depth-major, padded with zeros.
template <class T>
void pack(const T *B, int64_t ld, int cols, int depth, T *out) {
  for (int p = 0; p < cols; p += NR<T>, out += int64_t(NR<T>) * depth) {
    int live = cols - p < NR<T> ? cols - p : NR<T>;
    // In short runs, so that the lines written to stay in L1.
    for (int k0 = 0; k0 < depth; k0 += 16)
      for (int j = 0; j < live; ++j) {
        const T *row = B + (p + j) * ld;
        for (int k = k0; k < k0 + 16 && k < depth; ++k) out[k * NR<T> + j] = row[k];
      }
    for (int j = live; j < NR<T>; ++j)
      for (int k = 0; k < depth; ++k) out[k * NR<T> + j] = T(0);
  }
}

template <class T, int ROWS>
void block(const T *A, int64_t lda, const T *packed, int depth, T *C, int64_t ldc, bool add) {
  using vec = typename simd<T>::vec;
  constexpr int L = simd<T>::lanes;
  vec acc[ROWS][2];
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; ++r) {
    acc[r][0] = add ? *(const vec *)(C + r * ldc) : vec{};
    acc[r][1] = add ? *(const vec *)(C + r * ldc + L) : vec{};
  }
  for (int k = 0; k < depth; ++k) {
    vec b0 = *(const vec *)(packed + k * NR<T>), b1 = *(const vec *)(packed + k * NR<T> + L);
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; ++r) {
      T a = A[r * lda + k];
      acc[r][0] += a * b0;
      acc[r][1] += a * b1;
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; ++r) {
    *(vec *)(C + r * ldc) = acc[r][0];
    *(vec *)(C + r * ldc + L) = acc[r][1];
  }
}

// rows x cols of A B^T into C; `packed` holds B as pack() leaves it. C has room for whole panels.
template <class T>
void multiply(const T *A, int64_t lda, const T *packed, int rows, int cols, int depth, T *C,
              int64_t ldc, bool add) {
  int r = 0;
  for (; r + MR <= rows; r += MR)
    for (int p = 0; p < cols; p += NR<T>)
      block<T, MR>(A + r * lda, lda, packed + int64_t(p) * depth, depth, C + r * ldc + p, ldc, add);
  for (; r + 4 <= rows; r += 4)
    for (int p = 0; p < cols; p += NR<T>)
      block<T, 4>(A + r * lda, lda, packed + int64_t(p) * depth, depth, C + r * ldc + p, ldc, add);
  for (; r < rows; ++r)
    for (int p = 0; p < cols; p += NR<T>)
      block<T, 1>(A + r * lda, lda, packed + int64_t(p) * depth, depth, C + r * ldc + p, ldc, add);
}
