#define KR_ISA baseline
#define KR_VECTOR_BYTES 16
#define KR_MR 6
#define KR_KERNELS baseline_kernels
#include "isa.inl"
