// What the Python module hands to a tile kernel. Raw pointers only: no Python, no torch.
#pragma once
#include <cstdint>

namespace kr {

constexpr int kBlock = 256;      // columns worked on at a time
constexpr int kRegisters = 64;   // block registers of the virtual machine
constexpr int kOutputs = 3;      // matrices: both kernels, or derivatives
constexpr int kAngleTerms = 8192;  // most terms times nodes of a series in the angle
constexpr int kMaxNodes = 48;
constexpr int kPlanes = 8;       // planes alive at once
constexpr int kLanded = 4;       // values that a stage hands to the next

// One instruction of the virtual machine; the meaning of the fields depends on op (see vm.inl).
struct Instr {
  int32_t op, dst, a, b, c, x, y, n;
};

#include "generated/instructions.inl"

// Tables hold one row per slot: table[slot * ld + data row].
struct Side {
  const void *X;         // normalised rows, (n, d), or what sparse rows hold
  const void *table;     // (slots, n), of the type of X
  const double *scale;   // standard deviation at the output, (n)
  int64_t n, ld_table;
  const int64_t *start;  // of sparse rows: where each begins, (n + 1); null for dense ones
  const int32_t *index;  // and the feature of each value, in order within a row
};

// Runs work(data) on so many threads, the calling one among them, and waits for all.
using Parallel = void (*)(void (*work)(void *), void *data, unsigned threads, unsigned flags);

// A program in double precision for pairs that are close, its tables with the same columns as those
// of the sides; without instructions where there is none.
struct Fine {
  const Instr *code;
  int64_t n_code;
  const double *consts;
  const double *table_rows, *table_cols;
};

struct Job {
  Side rows, cols;
  int64_t d;
  int64_t i0, i1, j0, j1;        // part of the matrix to fill
  bool symmetric;                // cols are the rows: only j <= i is computed, then mirrored
  double near;                   // pairs with a smaller gap are taken from differences
  const Instr *code;
  int64_t n_code;
  const double *consts;
  int64_t n_consts;
  Fine fine;
  void *out[kOutputs];           // nngp, ntk; any may be null. Entry (i0, j0) comes first
  int64_t ld_out[kOutputs];
  const double *diagonal[2];     // of the symmetric matrix
  int threads;
  Parallel parallel;             // null: threads are started and joined
};

// Loops over cells go on to the end of a vector: so much may be read, and is written, beyond the last.
constexpr int64_t kBeyond = 16;

// The positions of one size of images, as planes go through them (see plane.inl).
struct PlaneStage {
  int64_t line, lines;      // cells of a line, and lines
  int64_t ring;             // dead cells between lines, or copies at each end of them if circular
  int64_t origin;           // cell of the first position
  int64_t halo;             // cells that are read from beyond either end
  int64_t circular;
  int64_t code, n_code;     // its instructions
  int64_t plane, n_planes;  // its planes, two numbers each: how far lines are turned, and the shift
  int64_t landed;           // values that it begins with, besides the images
  int64_t cells() const { return line * lines; }
  int64_t whole() const { return (cells() + kBeyond - 1) / kBeyond * kBeyond; }
  int64_t table() const { return 2 * cells() + kBeyond; }
};

// One side of the images: for each stage tables of an image after that of another, (n, slots, ld);
// they hold their cells twice, and end behind that where `table` says.
struct PlaneSide {
  const void *const *table;
  const int64_t *slots;
  int64_t n;
};

struct PlaneJob {
  PlaneSide rows, cols;
  int64_t i0, i1, j0, j1;
  int64_t mode;             // all pairs, those with j < i, or every image with itself
  const PlaneStage *stages;
  int64_t n_stages;
  const Instr *code;
  const double *consts;
  int64_t n_consts;
  const int64_t *numbers;   // offsets and sizes that instructions refer to
  const int64_t *planes;
  double *readouts;         // (pairs, n_readouts, 2): half squares of distances, tangent kernels
  int64_t n_readouts;
  double *still;            // (images, landed, cells): where the last stage begins, undisplaced
  int threads;
  Parallel parallel;
};

enum PlaneMode : int64_t { all_pairs, lower_pairs, same_image };

// Rows of the lower half of a symmetric matrix, up to the square on the diagonal, and vectors that
// the matrix is multiplied with.
struct HalfJob {
  const void *panel;      // rows [i0, i1), columns [0, i1)
  int64_t ld, i0, i1;
  const double *source;   // (vectors, n)
  double *target;         // (vectors, n), added to
  int64_t vectors, n;
  int threads;
  Parallel parallel;
};

// What a recorded row pass is made of; Python asks for the names (see kernreg/backends/recorded.py).
#define KR_ROW_OPS(op)                                                                     \
  op(add) op(sub) op(mul) op(div) op(maximum) op(minimum) op(gt) op(ge) op(lt) op(le) op(eq) \
  op(where) op(neg) op(abs) op(isfinite)

enum class RowOp : int32_t {
#define KR_ENTRY(name) name,
  KR_ROW_OPS(KR_ENTRY)
#undef KR_ENTRY
  count
};

struct RowStep { int32_t op, dst, a, b, c; };

// What must be so for a recording to apply: whether all rows, or any, have a register at not 0.
struct RowGuard { int32_t at, all, outcome; };

struct RowJob {
  double *file;   // (registers, n)
  int64_t n;
  const RowStep *steps;
  int64_t n_steps;
  const RowGuard *guards;
  int64_t n_guards;
};

// Runs the steps; whether the guards hold then.
bool run_recorded(const RowJob &job);

// By the type of the arithmetic and of the output.
struct Kernels {
  void (*in_float)(const Job &);
  void (*in_double)(const Job &);
  void (*in_double_to_float)(const Job &);
  void (*planes_in_float)(const PlaneJob &);
  void (*planes_in_double)(const PlaneJob &);
  void (*half_of_floats)(const HalfJob &);
  void (*half_of_doubles)(const HalfJob &);
};

Kernels baseline_kernels();
Kernels avx2_kernels();
Kernels avx512_kernels();

}  // namespace kr
