#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "server/device/emulator/async/families.h"
#include "server/device/emulator/ops/families.h"
#include "server/device/emulator/program/form.h"

namespace trun::device {
namespace {

class Table final : public FamilyTable {
 public:
  Table() {
    RegisterArithmetic(this);
    RegisterLogic(this);
    RegisterSelection(this);
    RegisterMovement(this);
    RegisterConversion(this);
    RegisterAtomics(this);
    RegisterWarp(this);
    RegisterBarriers(this);
    RegisterMatrix(this);
    RegisterWmma(this);
    RegisterAsyncCopy(this);
    RegisterMbarrier(this);
    RegisterTensorMap(this);
    RegisterWgmma(this);
  }

  void Add(const char* opcode, Family family) override {
    if (!families_.emplace(opcode, family).second) {
      fprintf(stderr, "the emulator has two families for '%s'\n", opcode);
      abort();
    }
  }

  Family Find(absl::string_view opcode) const {
    auto it = families_.find(opcode);
    return it == families_.end() ? nullptr : it->second;
  }

 private:
  absl::flat_hash_map<std::string, Family> families_;
};

}  // namespace

Family FindFamily(absl::string_view opcode) {
  static const Table* const table = new Table;
  return table->Find(opcode);
}

}  // namespace trun::device
