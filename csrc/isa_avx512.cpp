#define KR_ISA avx512
#define KR_VECTOR_BYTES 64
#define KR_MR 12
#define KR_KERNELS avx512_kernels
#include "isa.inl"
