// Selectors of lane_integer.cc and lane_memory.cc, in the namespace of the instruction set that they are
// compiled for.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_OPS_LANE_INTEGER_H_
#define TRUN_SERVER_DEVICE_EMULATOR_OPS_LANE_INTEGER_H_

#include "server/device/emulator/ops/lane_operations.h"

namespace trun::device {

#define TRUN_DECLARE_LANE_OPERATIONS(ISA)                                                               \
  namespace ISA {                                                                                       \
  Operation SelectInteger(LaneOpcode opcode, Type type);                                                \
  Operation SelectCompare(Comparison comparison, Type type);                                            \
  Operation SelectConvertIntegers(Type to, Width to_width, Type from, Width from_width, bool saturate); \
  Operation SelectLoad(const MemoryForm& form);                                                         \
  Operation SelectStore(const MemoryForm& form);                                                        \
  Operation SelectLoadParameter(const MemoryForm& form);                                                \
  }

TRUN_DECLARE_LANE_OPERATIONS(ops_baseline)
TRUN_DECLARE_LANE_OPERATIONS(ops_avx2)
TRUN_DECLARE_LANE_OPERATIONS(ops_avx512)

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_OPS_LANE_INTEGER_H_
