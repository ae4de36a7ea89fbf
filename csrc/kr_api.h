// What the Python module hands to a tile kernel. Raw pointers only: no Python, no torch.
#pragma once
#include <cstdint>

namespace kr {

constexpr int kBlock = 256;      // columns worked on at a time
constexpr int kRegisters = 64;   // block registers of the virtual machine
constexpr int kAngleTerms = 8192;  // most terms times nodes of a series in the angle
constexpr int kMaxNodes = 48;

// One instruction of the virtual machine; the meaning of the fields depends on op (see vm.inl).
struct Instr {
  int32_t op, dst, a, b, c, x, y, n;
};

#include "generated/instructions.inl"

// Tables hold one row per slot: table[slot * ld + data row].
struct Side {
  const void *X;         // normalised rows, (n, d)
  const void *table;     // (slots, n), of the type of X
  const double *scale;   // standard deviation at the output, (n)
  int64_t n, ld_table;
};

// Runs work(data) on so many threads, the calling one among them, and waits for all.
using Parallel = void (*)(void (*work)(void *), void *data, unsigned threads, unsigned flags);

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
  void *out[2];                  // nngp, ntk; either may be null. Entry (i0, j0) comes first
  int64_t ld_out[2];
  const double *diagonal[2];     // of the symmetric matrix
  int threads;
  Parallel parallel;             // null: threads are started and joined
};

// By the type of the arithmetic and of the output.
struct Kernels {
  void (*in_float)(const Job &);
  void (*in_double)(const Job &);
  void (*in_double_to_float)(const Job &);
};

Kernels baseline_kernels();
Kernels avx2_kernels();
Kernels avx512_kernels();

}  // namespace kr
