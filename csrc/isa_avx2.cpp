#define KR_ISA avx2
#define KR_VECTOR_BYTES 32
#define KR_MR 6
#define KR_KERNELS avx2_kernels
#include "isa.inl"
