// The words of a written instruction: "ld.global.v4.b32" is the opcode ld with three modifiers.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_CHECKS_INSTRUCTION_WORDS_H_
#define TRUN_SERVER_DEVICE_EMULATOR_CHECKS_INSTRUCTION_WORDS_H_

#include <algorithm>
#include <vector>

#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "server/device/emulator/program/type.h"

namespace trun::device {

struct InstructionWords {
  absl::string_view opcode;
  std::vector<absl::string_view> modifiers;

  explicit InstructionWords(absl::string_view text) : modifiers(absl::StrSplit(text, '.')) {
    opcode = modifiers.front();
    modifiers.erase(modifiers.begin());
  }

  bool Has(absl::string_view modifier) const {
    return std::find(modifiers.begin(), modifiers.end(), modifier) != modifiers.end();
  }
  // The n-th modifier that is a type; kNone where there are fewer.
  Type TypeAt(int n) const {
    for (const absl::string_view word : modifiers) {
      const Type type = TypeFromName(word);
      if (type != Type::kNone && n-- == 0) return type;
    }
    return Type::kNone;
  }
};

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_CHECKS_INSTRUCTION_WORDS_H_
