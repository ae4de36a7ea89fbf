// Inner products of the rows of two tiles, in float64 on the tensor cores.

constexpr int kTile = 64;            // rows and columns of a tile
constexpr int kWarpTile = 32;        // rows and columns that one warp multiplies
constexpr int kThreads = kLanes * (kTile / kWarpTile) * (kTile / kWarpTile);
constexpr int kDepth = 16;           // inner dimension of a stage, and of one step of the units
constexpr int kPitch = kDepth + 4;   // keeps the lanes of a fragment in different banks
constexpr int kBlocks = kWarpTile / 8;
constexpr int kStage = 2 * kTile * kPitch;

using Products = double[kBlocks][kBlocks][2];

// Row and column in a tile of the first number of a thread's block (a, b); the second one is beside.
KR_INLINE int product_row(int thread, int a) {
  int warp = thread / kLanes, lane = thread % kLanes;
  return warp / (kTile / kWarpTile) * kWarpTile + 8 * a + lane / 4;
}
KR_INLINE int product_column(int thread, int b) {
  int warp = thread / kLanes, lane = thread % kLanes;
  return warp % (kTile / kWarpTile) * kWarpTile + 8 * b + 2 * (lane % 4);
}

// Copies columns [k, k + kDepth) of a tile of rows; zeros beyond column d, the last row beyond it.
KR_INLINE void copy_stage(double *to, const double *X, int64_t d, int64_t k, int rows) {
  int column = int(threadIdx.x) % kDepth;
  bool wanted = k + column < d;
  X += wanted ? k + column : 0;
#pragma unroll
  for (int row0 = 0; row0 < kTile; row0 += kThreads / kDepth) {
    int row = row0 + int(threadIdx.x) / kDepth;
    copy_async(to + row * kPitch + column, X + min_(row, rows - 1) * d, wanted);
  }
}

KR_INLINE void copy_stages(double *to, const double *X, const double *Y, int64_t d, int64_t k,
                           int rows, int columns) {
  copy_stage(to, X, d, k, rows);
  copy_stage(to + kTile * kPitch, Y, d, k, columns);
}

// `shared` has room for two stages, and is free again on return.
KR_INLINE void inner_products(const double *X, const double *Y, int64_t d, int rows, int columns,
                              double *shared, Products &c) {
  int thread = threadIdx.x, lane = thread % kLanes;
  // The fragments of a lane: row lane / 4 of both operands, inner index lane % 4.
  int left = product_row(thread, 0) * kPitch + lane % 4;
  int right = (product_column(thread, 0) - 2 * (lane % 4) + lane / 4) * kPitch + lane % 4;
  copy_stages(shared, X, Y, d, 0, rows, columns);
  commit_copies();
  int stage = 0;
  for (int64_t k = 0; k < d; k += kDepth, stage ^= 1) {
    if (k + kDepth < d)
      copy_stages(shared + (stage ^ 1) * kStage, X, Y, d, k + kDepth, rows, columns);
    commit_copies();
    wait_for_copies();
    __syncthreads();
    const double *A = shared + stage * kStage + left;
    const double *B = shared + stage * kStage + kTile * kPitch + right;
    double a[kBlocks][4];
#pragma unroll
    for (int p = 0; p < kBlocks; ++p)
#pragma unroll
      for (int k4 = 0; k4 < 4; ++k4) a[p][k4] = A[8 * p * kPitch + 4 * k4];
#pragma unroll
    for (int q = 0; q < kBlocks; ++q) {
      double b[4];
#pragma unroll
      for (int k4 = 0; k4 < 4; ++k4) b[k4] = B[8 * q * kPitch + 4 * k4];
#pragma unroll
      for (int p = 0; p < kBlocks; p += 2) multiply_add(c[p][q], c[p + 1][q], a[p], a[p + 1], b);
    }
    __syncthreads();
  }
}
