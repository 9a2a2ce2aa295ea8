#include "server/artifact/cubin_facts.h"

#include <cstring>
#include <map>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/base/status.h"
#include "server/artifact/signature.h"

namespace trun {
namespace {

// ELF-64 header, section and symbol layout: System V gABI, chapter 4.
constexpr size_t kHeaderBytes = 64;
constexpr size_t kSectionBytes = 64;
constexpr size_t kSymbolBytes = 24;
constexpr uint16_t kMachineCuda = 190;
constexpr uint16_t kMachineAmdGpu = 224;
constexpr uint32_t kSymbolTable = 2;
constexpr uint8_t kFunctionSymbol = 2;  // STT_FUNC
constexpr uint8_t kEntrySymbol = 0x10;  // STO_CUDA_ENTRY, in st_other

// Attributes of .nv.info: a format byte, an attribute byte, and a 16-bit value or length.
constexpr uint8_t kFormatSized = 4;
constexpr uint8_t kMaxThreads = 0x05;
constexpr uint8_t kRequiredThreads = 0x10;
constexpr uint8_t kParameterInfo = 0x17;
constexpr uint8_t kParameterBufferSize = 0x19;
constexpr uint8_t kCtaPerCluster = 0x3d;

absl::Status Malformed(absl::string_view what) {
  return InvalidArgument(Reason::kInvalidIr, absl::StrCat("the cubin is damaged: ", what));
}

template <typename T>
std::optional<T> Load(absl::string_view bytes, uint64_t offset) {
  if (offset > bytes.size() || bytes.size() - offset < sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

uint16_t Machine(absl::string_view bytes) {
  if (!absl::StartsWith(bytes, absl::string_view("\177ELF\2\1", 6))) return 0;
  return Load<uint16_t>(bytes, 18).value_or(0);
}

struct Section {
  absl::string_view name;
  uint32_t type = 0;
  uint32_t link = 0;
  absl::string_view content;  // empty for SHT_NOBITS
};

// The NUL-terminated string at `offset` of a string table; empty where it leaves the table.
absl::string_view StringAt(absl::string_view table, uint64_t offset) {
  if (offset >= table.size()) return {};
  const size_t end = table.find('\0', offset);
  return end == absl::string_view::npos ? absl::string_view() : table.substr(offset, end - offset);
}

absl::StatusOr<std::vector<Section>> ReadSections(absl::string_view bytes) {
  const auto table = Load<uint64_t>(bytes, 40);
  const auto entry_bytes = Load<uint16_t>(bytes, 58);
  const auto count = Load<uint16_t>(bytes, 60);
  const auto names_index = Load<uint16_t>(bytes, 62);
  if (!names_index.has_value()) return Malformed("its ELF header is cut short");
  if (*entry_bytes != kSectionBytes) return Malformed("its section headers have an unknown size");
  if (*table > bytes.size() || (bytes.size() - *table) / kSectionBytes < *count) {
    return Malformed("its section table lies outside the file");
  }
  if (*names_index >= *count) return Malformed("it has no table of section names");
  std::vector<Section> sections(*count);
  std::vector<uint32_t> name_offsets(*count);
  for (size_t i = 0; i < *count; ++i) {
    const uint64_t at = *table + i * kSectionBytes;
    name_offsets[i] = *Load<uint32_t>(bytes, at);
    sections[i].type = *Load<uint32_t>(bytes, at + 4);
    sections[i].link = *Load<uint32_t>(bytes, at + 40);
    const uint64_t offset = *Load<uint64_t>(bytes, at + 24);
    const uint64_t size = *Load<uint64_t>(bytes, at + 32);
    constexpr uint32_t kNull = 0, kNoBits = 8;
    if (sections[i].type == kNull || sections[i].type == kNoBits) continue;
    if (offset > bytes.size() || bytes.size() - offset < size) {
      return Malformed(absl::StrCat("section ", i, " lies outside the file"));
    }
    sections[i].content = bytes.substr(offset, size);
  }
  for (size_t i = 0; i < *count; ++i)
    sections[i].name = StringAt(sections[*names_index].content, name_offsets[i]);
  return sections;
}

std::array<uint32_t, 3> ThreeWords(absl::string_view payload) {
  std::array<uint32_t, 3> out = {0, 0, 0};
  if (payload.size() >= 12) std::memcpy(out.data(), payload.data(), 12);
  return out;
}

absl::Status ReadInfo(absl::string_view info, CubinEntry& entry) {
  std::map<uint16_t, CubinParameter> parameters;
  bool any_pointer = false;
  for (uint64_t at = 0; at + 4 <= info.size();) {
    const uint8_t format = static_cast<uint8_t>(info[at]);
    const uint8_t attribute = static_cast<uint8_t>(info[at + 1]);
    const uint16_t value = *Load<uint16_t>(info, at + 2);
    at += 4;
    if (format != kFormatSized) {
      if (attribute == kParameterBufferSize) entry.parameter_bytes = value;
      continue;
    }
    if (info.size() - at < value)
      return Malformed(absl::StrCat("an attribute of ", entry.name, " is cut short"));
    const absl::string_view payload = info.substr(at, value);
    at += value;
    if (attribute == kMaxThreads) entry.max_block = ThreeWords(payload);
    if (attribute == kRequiredThreads) entry.required_block = ThreeWords(payload);
    if (attribute == kCtaPerCluster) entry.required_cluster = ThreeWords(payload);
    if (attribute == kParameterInfo) {
      // index (u32), ordinal (u16), offset (u16), then a word with the space in bits 8 to 11 and the size
      // above bit 18.
      if (payload.size() < 12) return Malformed("a parameter record is too short");
      const uint16_t ordinal = *Load<uint16_t>(payload, 4);
      const uint32_t packed = *Load<uint32_t>(payload, 8);
      CubinParameter parameter;
      parameter.offset = *Load<uint16_t>(payload, 6);
      parameter.bytes = packed >> 18;
      parameter.is_pointer = ((packed >> 8) & 0xf) == 4;
      any_pointer = any_pointer || parameter.is_pointer;
      if (!parameters.emplace(ordinal, parameter).second) return Malformed("a parameter is described twice");
      if (parameters.size() > kMaxKernelParameters) return Malformed("it has too many parameters");
    }
  }
  uint32_t end = 0;
  for (const auto& [ordinal, parameter] : parameters) {
    if (ordinal != entry.parameters.size())
      return Malformed(absl::StrCat(entry.name, " lacks a parameter record"));
    if (parameter.bytes == 0 || parameter.offset < end) {
      return Malformed(absl::StrCat("parameter ", ordinal, " of ", entry.name, " has no sensible place"));
    }
    end = parameter.offset + parameter.bytes;
    entry.parameters.push_back(parameter);
  }
  if (entry.parameter_bytes == 0) entry.parameter_bytes = end;
  if (entry.parameter_bytes < end || (end == 0 && entry.parameter_bytes != 0)) {
    return Malformed(absl::StrCat("the parameters of ", entry.name, " do not fit its parameter buffer"));
  }
  return absl::OkStatus();
}

}  // namespace

bool IsCubin(absl::string_view bytes) { return Machine(bytes) == kMachineCuda; }
bool IsHsaco(absl::string_view bytes) { return Machine(bytes) == kMachineAmdGpu; }

absl::StatusOr<CubinFacts> ReadCubinFacts(absl::string_view bytes) {
  if (!IsCubin(bytes))
    return InvalidArgument(Reason::kInvalidIr, "the file is not a cubin (no 64-bit CUDA ELF)");
  if (bytes.size() < kHeaderBytes) return Malformed("its ELF header is cut short");
  TRUN_ASSIGN_OR_RETURN(const std::vector<Section> sections, ReadSections(bytes));
  CubinFacts facts;
  const uint32_t flags = *Load<uint32_t>(bytes, 48);
  // ABI version 8 (ptxas of CUDA 12.9 and later for some targets, 13 for all) moved the architecture up a
  // byte.
  facts.arch = static_cast<int>(static_cast<uint8_t>(bytes[8]) >= 8 ? (flags >> 8) & 0xff : flags & 0xff);

  absl::flat_hash_map<absl::string_view, const Section*> infos;
  for (const Section& section : sections) {
    absl::string_view name = section.name;
    if (absl::ConsumePrefix(&name, ".nv.info.")) infos[name] = &section;
  }
  for (const Section& section : sections) {
    if (section.type != kSymbolTable) continue;
    if (section.link >= sections.size()) return Malformed("its symbol table has no names");
    for (uint64_t at = 0; at + kSymbolBytes <= section.content.size(); at += kSymbolBytes) {
      const uint8_t info = static_cast<uint8_t>(section.content[at + 4]);
      const uint8_t other = static_cast<uint8_t>(section.content[at + 5]);
      const uint16_t where = *Load<uint16_t>(section.content, at + 6);
      if ((info & 0xf) != kFunctionSymbol || (other & kEntrySymbol) == 0 || where == 0) continue;
      CubinEntry entry;
      entry.name =
          std::string(StringAt(sections[section.link].content, *Load<uint32_t>(section.content, at)));
      const auto found = infos.find(entry.name);
      if (entry.name.empty() || found == infos.end())
        return Malformed("an entry has no name or no .nv.info section");
      TRUN_RETURN_IF_ERROR(ReadInfo(found->second->content, entry));
      infos.erase(found);  // each entry once: the work stays linear
      facts.entries.push_back(std::move(entry));
    }
  }
  if (facts.entries.empty()) return Malformed("it has no entry");
  return facts;
}

}  // namespace trun
