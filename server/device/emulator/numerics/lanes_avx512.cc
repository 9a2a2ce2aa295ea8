// The lane kernels with AVX-512.
#define TRUN_VARIANT avx512
#define TRUN_VARIANT_TABLE kAvx512Variant
#include "server/device/emulator/numerics/lanes.inc"
