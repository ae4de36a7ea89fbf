// A part of a kernel matrix in float64. Before this come the kernel program, and what is wanted of
// it: kNngp, kNtk and the type Out.

constexpr int kStrip = 16;           // rows whose values wait in shared memory for their stores
constexpr int kWide = kTile + 1;     // keeps the rows of a column in different banks
constexpr int kValues = kTile * kWide + kStrip * kWide;
constexpr int kShared = kValues > 2 * kStage ? kValues : 2 * kStage;

// Row and column of a tile of the lower triangle, counted row by row.
KR_INLINE void triangle(int64_t tile, int64_t &row, int64_t &column) {
  row = int64_t((root(8.0 * double(tile) + 1.0) - 1.0) * 0.5);
  // The root may be off by one where it is close to a whole number.
  if (row * (row + 1) / 2 > tile) --row;
  if ((row + 1) * (row + 2) / 2 <= tile) ++row;
  column = tile - row * (row + 1) / 2;
}

// The state of a pair before the network. The gap of close rows is lost in the rounding of their
// inner product; half their squared distance has it.
KR_INLINE State<double> input_pair(double rho, const double *x, const double *y, int64_t d,
                                   double near) {
  double gap = gap_of(rho);
  if (gap < near) {
    double sign = rho > 0.0 ? 1.0 : -1.0, squares = 0.0;
    for (int64_t k = 0; k < d; ++k) {
      double distance = x[k] - sign * y[k];
      squares += distance * distance;
    }
    gap = 0.5 * squares;
    rho = sign * (1.0 - gap);
  }
  return {rho, gap, 0.0};
}

// A tile of the matrix: where it begins, its size within the matrix, and `same`: entries whose row
// minus column is this are on the diagonal.
struct Tile {
  int64_t first_row, first_column;
  int rows, columns, same;
  bool half;
};

// Stores `values`, rows [row0, row0 + kStrip) of a tile, and in a symmetric part their mirror image.
KR_INLINE void store(Out *out, int64_t ld, const double *diagonal, const double *values,
                     const Tile &t, int row0) {
#pragma unroll
  for (int e0 = 0; e0 < kStrip * kTile; e0 += kThreads) {
    int e = e0 + int(threadIdx.x), row = row0 + e / kTile, column = e % kTile;
    if (row >= t.rows || column >= t.columns || (t.half && row - column < t.same)) continue;
    double value = values[e / kTile * kWide + column];
    if (row - column == t.same) value = diagonal[t.first_row + row];
    out[(t.first_row + row) * ld + t.first_column + column] = Out(value);
  }
  if (!t.half) return;
#pragma unroll
  for (int e0 = 0; e0 < kStrip * kTile; e0 += kThreads) {
    int e = e0 + int(threadIdx.x), row = row0 + e % kStrip, column = e / kStrip;
    if (row >= t.rows || column >= t.columns || row - column <= t.same) continue;
    double value = values[e % kStrip * kWide + column];
    out[(t.first_column + column) * ld + t.first_row + row] = Out(value);
  }
}

// Row i of X is row i + shift of Y (shift >= m if they are different data); these entries come from
// D0 and D1. With `half` the part is a symmetric matrix, of which only tiles on and below the
// diagonal are worked out. X, the tables TX, the standard deviations SX and D belong to the n rows;
// Y, TY and SY to the m columns. OUT0 is the NNGP, OUT1 the NTK.
extern "C" __global__ void __launch_bounds__(kThreads)
    gram(const double *__restrict__ X, const double *__restrict__ Y,
         const double *__restrict__ TX, const double *__restrict__ TY,
         const double *__restrict__ SX, const double *__restrict__ SY,
         const double *__restrict__ consts, const double *__restrict__ D0,
         const double *__restrict__ D1, Out *__restrict__ OUT0, Out *__restrict__ OUT1, int64_t n,
         int64_t m, int64_t d, int64_t shift, int64_t ldx, int64_t ldy, int64_t ld0, int64_t ld1,
         int64_t half, double near) {
  __shared__ __align__(16) double shared[kShared];
  int64_t tile = blockIdx.x, across = (m + kTile - 1) / kTile;
  int64_t tile_row = tile / across, tile_column = tile % across;
  if (half) triangle(tile, tile_row, tile_column);
  Tile t{tile_row * kTile, tile_column * kTile, 0, 0, 0, half != 0};
  t.rows = int(min_(n - t.first_row, int64_t(kTile)));
  t.columns = int(min_(m - t.first_column, int64_t(kTile)));
  // Cut to what a tile can reach, so that it fits 32 bits.
  t.same = int(max_(min_(t.first_column - t.first_row - shift, int64_t(kTile)), -int64_t(kTile)));
  X += t.first_row * d;
  Y += t.first_column * d;
  {
    Products c = {};
    inner_products(X, Y, d, t.rows, t.columns, shared, c);
#pragma unroll
    for (int a = 0; a < kBlocks; ++a)
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) {
        double *to = shared + product_row(threadIdx.x, a) * kWide + product_column(threadIdx.x, b);
        to[0] = c[a][b][0];
        to[1] = c[a][b][1];
      }
  }
  __syncthreads();
  double *strip = shared + kTile * kWide;
  for (int row0 = 0; row0 < t.rows; row0 += kStrip) {
#pragma unroll 1
    for (int e = threadIdx.x; e < kStrip * kTile; e += kThreads) {
      int row = e / kTile, column = e % kTile;
      double *value = shared + (row0 + row) * kWide + column;
      int i = min_(row0 + row, t.rows - 1), j = min_(column, t.columns - 1);
      double close = i - j == t.same ? 0.0 : near;
      State<double> s = input_pair(*value, X + i * d, Y + j * d, d, close);
      Slots slots{fresh(TX + t.first_row + i), fresh(TY + t.first_column + j), ldx, ldy};
      s = program(s, slots, consts);
      double scale = SX[t.first_row + i] * SY[t.first_column + j];
      if (kNngp) *value = scale * s.rho;
      if (kNtk) strip[row * kWide + column] = scale * s.tau;
    }
    __syncthreads();
    if (kNngp) store(OUT0, ld0, D0, shared + row0 * kWide, t, row0);
    if (kNtk) store(OUT1, ld1, D1, strip, t, row0);
    __syncthreads();
  }
}
