// The lane kernels with AVX2, FMA and F16C.
#define TRUN_VARIANT avx2
#define TRUN_VARIANT_TABLE kAvx2Variant
#include "server/device/emulator/numerics/lanes.inc"
