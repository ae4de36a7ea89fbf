// One instruction set's copy of the engine. Each lives in a namespace of its own: the linker
// would otherwise keep one copy of an inline function for all of them.
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <system_error>
#include <thread>
#include <vector>

#include "kr_api.h"

// A function that is called instead of inlined keeps a loop from being vectorised.
#define KR_INLINE static inline __attribute__((always_inline))

namespace kr {
namespace KR_ISA {
KR_INLINE float root(float x) { return __builtin_sqrtf(x); }
KR_INLINE double root(double x) { return __builtin_sqrt(x); }
#include "generated/polynomials.inl"
#include "vmath.inl"
#include "pair.inl"
#include "gemm.inl"
#include "sparse.inl"
#include "vm.inl"
#include "tile.inl"
#include "cells.inl"
#include "landing.inl"
#include "plane.inl"
#include "plane_instructions.inl"
#include "half.inl"
}  // namespace KR_ISA

Kernels KR_KERNELS() {
  return {KR_ISA::fill<float, float>, KR_ISA::fill<double, double>, KR_ISA::fill<double, float>,
          KR_ISA::fill_planes<float>, KR_ISA::fill_planes<double>,
          KR_ISA::multiply_half<float>, KR_ISA::multiply_half<double>};
}
}  // namespace kr
