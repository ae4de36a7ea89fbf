// What the kernels need of the device, and nothing else of theirs is written for it.

typedef int int32_t;
typedef long long int64_t;

#define KR_MEMBER __device__ __forceinline__
#define KR_INLINE static KR_MEMBER

constexpr int kLanes = 32;

KR_INLINE float root(float x) { return sqrtf(x); }
KR_INLINE double root(double x) { return sqrt(x); }

// Whole warps call this: the value of another lane.
KR_INLINE double from_lane(double value, int lane) {
  return __shfl_sync(0xffffffffu, value, lane);
}

// The same address, of which the compiler no longer knows that it is: what is read there is read
// again in every turn of a loop, instead of filling registers.
KR_INLINE const double *fresh(const double *address) {
  asm volatile("" : "+l"(address));
  return address;
}

// Begins to copy one number from global to shared memory; 0 arrives if it is not wanted.
KR_INLINE void copy_async(double *to, const double *from, bool wanted) {
  unsigned shared = static_cast<unsigned>(__cvta_generic_to_shared(to));
  int bytes = wanted ? 8 : 0;
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(shared), "l"(from), "r"(bytes));
}

KR_INLINE void commit_copies() { asm volatile("cp.async.commit_group;"); }

// Waits for all copies but those committed last.
KR_INLINE void wait_for_copies() { asm volatile("cp.async.wait_group 1;" ::: "memory"); }

// C += A B on the tensor cores, all lanes of a warp together: A is 16 x 16, B is 16 x 8. With
// row = lane / 4 and k = lane % 4 a lane holds
//   upper[q] = A[row, k + 4 q]    lower[q] = A[row + 8, k + 4 q]    b[q] = B[k + 4 q, row]
// and C[row, 2 k + {0, 1}] in above, C[row + 8, 2 k + {0, 1}] in below.
#if __CUDA_ARCH__ >= 900
KR_INLINE void multiply_add(double (&above)[2], double (&below)[2], const double (&upper)[4],
                            const double (&lower)[4], const double (&b)[4]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f64.f64.f64.f64 {%0, %1, %2, %3}, "
      "{%4, %5, %6, %7, %8, %9, %10, %11}, {%12, %13, %14, %15}, {%0, %1, %2, %3};"
      : "+d"(above[0]), "+d"(above[1]), "+d"(below[0]), "+d"(below[1])
      : "d"(upper[0]), "d"(lower[0]), "d"(upper[1]), "d"(lower[1]), "d"(upper[2]), "d"(lower[2]),
        "d"(upper[3]), "d"(lower[3]), "d"(b[0]), "d"(b[1]), "d"(b[2]), "d"(b[3]));
}
#else
KR_INLINE void multiply_add_8x8x4(double (&c)[2], double a, double b) {
  asm("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0, %1}, {%2}, {%3}, {%0, %1};"
      : "+d"(c[0]), "+d"(c[1])
      : "d"(a), "d"(b));
}

KR_INLINE void multiply_add(double (&above)[2], double (&below)[2], const double (&upper)[4],
                            const double (&lower)[4], const double (&b)[4]) {
#pragma unroll
  for (int q = 0; q < 4; ++q) {
    multiply_add_8x8x4(above, upper[q], b[q]);
    multiply_add_8x8x4(below, lower[q], b[q]);
  }
}
#endif
