// A kernel ready to run: instructions, the layout of its register file and of its memories.
//
// Immutable after loading; shared by all launches and threads.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_PROGRAM_PROGRAM_H_
#define TRUN_SERVER_DEVICE_EMULATOR_PROGRAM_PROGRAM_H_

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/device/device.h"
#include "server/device/emulator/program/instruction.h"

namespace trun::device {

// Where an instruction stands, for reports.
struct InstructionSite {
  absl::string_view text;  // in the module's text
  uint32_t line = 0;
  uint32_t source_file = 0;
  uint32_t source_line = 0;
};

enum class SpecialRegister : uint8_t {
  kTidX,
  kTidY,
  kTidZ,
  kNtidX,
  kNtidY,
  kNtidZ,
  kCtaidX,
  kCtaidY,
  kCtaidZ,
  kNctaidX,
  kNctaidY,
  kNctaidZ,
  kLaneid,
  kWarpid,
  kNwarpid,
  kSmid,
  kNsmid,
  kGridid,
  kLanemaskEq,
  kLanemaskLe,
  kLanemaskLt,
  kLanemaskGe,
  kLanemaskGt,
  kClusteridX,
  kClusteridY,
  kClusteridZ,
  kNclusteridX,
  kNclusteridY,
  kNclusteridZ,
  kClusterCtaidX,
  kClusterCtaidY,
  kClusterCtaidZ,
  kClusterNctaidX,
  kClusterNctaidY,
  kClusterNctaidZ,
  kClusterCtarank,
  kClusterNctarank,
  kIsExplicitCluster,
  kDynamicSmemSize,
  kTotalSmemSize,
  kAggrSmemSize,
  kEnvreg,
  kCount,
};

// A constant that is spread over 32 lanes when a register file is set up.
struct ConstantSlot {
  uint32_t offset = 0;
  uint32_t bytes = 0;  // of one lane: 4 or 8; 0: a predicate word, as it is
  uint64_t value = 0;
};

// A variable in a thread's local memory: [begin, end). An access lies within one.
struct LocalVariable {
  uint32_t begin = 0;
  uint32_t end = 0;
  absl::string_view name;  // in the module's text
};

struct OperandMap;

struct Program {
  std::vector<Instruction> code;
  std::vector<InstructionSite> sites;  // one per instruction

  // The register file: constants, special registers, then registers.
  uint32_t register_bytes = 0;
  uint32_t registers_begin = 0;  // what lies before it never changes during a CTA
  std::vector<ConstantSlot> constants;
  struct SpecialSlot {
    SpecialRegister which;
    uint32_t offset;
  };
  std::vector<SpecialSlot> specials;

  uint32_t static_shared_bytes = 0;   // dynamic shared memory begins here
  uint32_t local_bytes = 0;           // a thread, the parameters of calls included
  std::vector<LocalVariable> locals;  // by begin, with a gap between any two

  // CTAs can see each other's work while they run: they run in a fixed order.
  bool ordered = false;
  KernelAttributes attributes;
  std::array<uint32_t, 3> required_cluster = {0, 0, 0};
  std::map<uint32_t, std::string> files;

  // Owns what Instruction::data and Instruction::list point to.
  std::deque<std::shared_ptr<const void>> owned;
  std::vector<uint32_t> lists;

  // The last local variable that begins at or below the address; null: there is none.
  const LocalVariable* LocalAt(uint64_t address) const {
    auto it = std::upper_bound(locals.begin(), locals.end(), address,
                               [](uint64_t at, const LocalVariable& v) { return at < v.begin; });
    return it == locals.begin() ? nullptr : &*std::prev(it);
  }

  std::shared_ptr<const OperandMap> operands;
  std::shared_ptr<const Program> original;  // of an instrumented copy (exec/instrument.h): what it is one of
};

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_PROGRAM_PROGRAM_H_
