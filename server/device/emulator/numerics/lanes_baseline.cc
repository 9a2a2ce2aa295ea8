// The lane kernels for any host.
#define TRUN_VARIANT baseline
#define TRUN_VARIANT_TABLE kBaselineVariant
#include "server/device/emulator/numerics/lanes.inc"
