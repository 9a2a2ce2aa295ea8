#include "server/device/emulator/checks/matrix_definedness.h"

#include <cstring>

#include "absl/strings/numbers.h"
#include "server/device/emulator/checks/instruction_words.h"
#include "server/device/emulator/numerics/mma.h"

namespace trun::device {
namespace {

struct StandIn {
  numerics::MmaShape shape;
  uint64_t one = 0;  // an element
  uint32_t element_bytes = 2;
  bool wide = false;  // registers of 64 bits
};

// The product of the same shape whose element is as wide and has a one.
bool StandInOf(const InstructionWords& words, StandIn* out) {
  numerics::MmaShape& s = out->shape;
  bool shaped = false;
  for (const absl::string_view word : words.modifiers) {
    const size_t n = word.find('n'), k = word.find('k');
    if (word.empty() || word[0] != 'm' || n == absl::string_view::npos || k == absl::string_view::npos ||
        k < n)
      continue;
    shaped = absl::SimpleAtoi(word.substr(1, n - 1), &s.m) &&
             absl::SimpleAtoi(word.substr(n + 1, k - n - 1), &s.n) &&
             absl::SimpleAtoi(word.substr(k + 1), &s.k);
  }
  if (!shaped) return false;
  const Type a = words.TypeAt(1);
  s.c = s.d = numerics::Type::kF32;
  if (a == Type::kF16 || a == Type::kBf16) {
    s.a = s.b = numerics::Type::kF16;
    out->one = 0x3c00;
    out->element_bytes = 2;
  } else if (a == Type::kTf32) {
    s.a = s.b = numerics::Type::kTf32;
    out->one = 0x3f800000;
    out->element_bytes = 4;
  } else if (a == Type::kF64) {
    s.a = s.b = s.c = s.d = numerics::Type::kF64;
    out->one = 0x3ff0000000000000;
    out->element_bytes = 8;
    out->wide = true;
  } else if (BitsOf(a) == 8) {
    s.a = s.b = numerics::Type::kS8;
    s.c = s.d = numerics::Type::kS32;
    out->one = 1;
    out->element_bytes = 1;
  } else {
    return false;
  }
  return numerics::SelectMma(s) != nullptr;
}

// A register of ones where `undefined` says so; everywhere when it is null.
void Fill(const StandIn& stand_in, const LaneBytes* undefined, uint64_t* to) {
  const uint32_t bytes = stand_in.wide ? 8 : 4;
  for (uint32_t lane = 0; lane < 32; ++lane) {
    uint64_t value = 0;
    for (uint32_t at = 0; at < bytes; at += stand_in.element_bytes) {
      const uint32_t unit = (1u << stand_in.element_bytes) - 1;
      if (undefined == nullptr || ((*undefined)[lane] >> at & unit) != 0) value |= stand_in.one << (8 * at);
    }
    std::memcpy(reinterpret_cast<uint8_t*>(to) + bytes * lane, &value, bytes);
  }
}

template <size_t N>
bool AnyUndefined(const std::array<LaneBytes, N>& fragment, int count) {
  for (int r = 0; r < count; ++r) {
    for (const uint16_t bytes : fragment[static_cast<size_t>(r)]) {
      if (bytes != 0) return true;
    }
  }
  return false;
}

}  // namespace

void PropagateMma(absl::string_view text, MatrixFragments* fragments) {
  const InstructionWords words(text);
  StandIn stand_in;
  for (size_t r = 0; r < fragments->d.size(); ++r) fragments->d[r].fill(0);
  if (!StandInOf(words, &stand_in)) return;
  const numerics::MmaCounts counts = numerics::CountsOf(stand_in.shape);
  const bool halves = words.TypeAt(0) == Type::kF16;  // D and C hold two elements a register
  for (size_t r = 0; r < 8; ++r) fragments->d[r] = fragments->c[r];
  alignas(64) uint64_t a[8][32], b[4][32], c[8][32], d[8][32];
  for (const bool of_a : {true, false}) {
    if (of_a ? !AnyUndefined(fragments->a, counts.a) : !AnyUndefined(fragments->b, counts.b)) continue;
    std::memset(c, 0, sizeof c);
    numerics::MmaRegisters registers;
    for (size_t r = 0; r < static_cast<size_t>(counts.a); ++r) {
      Fill(stand_in, of_a ? &fragments->a[r] : nullptr, a[r]);
      registers.a[r] = a[r];
    }
    for (size_t r = 0; r < static_cast<size_t>(counts.b); ++r) {
      Fill(stand_in, of_a ? nullptr : &fragments->b[r], b[r]);
      registers.b[r] = b[r];
    }
    for (size_t r = 0; r < static_cast<size_t>(counts.c); ++r) registers.c[r] = c[r];
    for (size_t r = 0; r < static_cast<size_t>(counts.d); ++r) registers.d[r] = d[r];
    numerics::SelectMma(stand_in.shape)(stand_in.shape, registers);
    for (size_t r = 0; r < static_cast<size_t>(counts.d); ++r) {
      for (uint32_t lane = 0; lane < 32; ++lane) {
        const uint64_t value = stand_in.wide ? d[r][lane] : reinterpret_cast<const uint32_t*>(d[r])[lane];
        if (value == 0) continue;
        if (halves) {
          fragments->d[r / 2][lane] |= r % 2 == 0 ? 0x3 : 0xc;
        } else {
          fragments->d[r][lane] |= stand_in.wide ? 0xff : 0xf;
        }
      }
    }
  }
}

}  // namespace trun::device
