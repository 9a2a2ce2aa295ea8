#include "client/cli/pass_files.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "client/cli/file.h"
#include "common/base/status.h"
#include "nlohmann/json.hpp"

namespace trun::cli {
namespace {

constexpr absl::string_view kMagic = "TRUNPASS";
constexpr size_t kMaxHeaderBytes = 64 << 10;

size_t TakeLength(absl::string_view* from) {
  size_t length = 0;
  for (int i = 0; i < 4; ++i)
    length |= static_cast<size_t>(static_cast<unsigned char>((*from)[i])) << (8 * i);
  from->remove_prefix(4);
  return length;
}

absl::Status Corrupt(absl::string_view what) {
  return DataLoss(Reason::kCorrupt, absl::StrCat("the record of the passes is damaged: ", what));
}

}  // namespace

absl::StatusOr<std::vector<RecordedPass>> ParsePassRecord(absl::string_view record) {
  if (!absl::ConsumePrefix(&record, kMagic)) return Corrupt("it does not begin as one");
  std::vector<RecordedPass> passes;
  absl::string_view ir;
  while (!record.empty()) {
    if (record.size() < 8) return Corrupt("it ends in the middle of a length");
    const size_t header_bytes = TakeLength(&record);
    const size_t ir_bytes = TakeLength(&record);
    if (header_bytes > kMaxHeaderBytes || record.size() < header_bytes ||
        record.size() - header_bytes < ir_bytes) {
      return Corrupt("it ends in the middle of a pass");
    }
    const nlohmann::json header = nlohmann::json::parse(record.begin(), record.begin() + header_bytes,
                                                        nullptr, /*allow_exceptions=*/false);
    const bool is_sound = header.is_object() && header.contains("name") && header["name"].is_string() &&
                          header.contains("changed") && header["changed"].is_boolean() &&
                          header.contains("ns") && header["ns"].is_number_integer();
    if (!is_sound) return Corrupt("a pass has no name");
    RecordedPass pass;
    pass.name = header["name"].get<std::string>();
    pass.index = static_cast<uint32_t>(passes.size());
    pass.changed = header["changed"].get<bool>();
    pass.microseconds = header["ns"].get<double>() / 1e3;
    record.remove_prefix(header_bytes);
    if (pass.changed) ir = record.substr(0, ir_bytes);
    pass.ir = ir;
    record.remove_prefix(ir_bytes);
    passes.push_back(std::move(pass));
  }
  return passes;
}

std::string PassFileName(const RecordedPass& pass) {
  std::string name;
  for (const char c : pass.name.substr(0, 100)) {
    const bool is_plain =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
    name.push_back(is_plain ? c : c == '/' ? '-' : '.');
  }
  return absl::StrCat(absl::StrFormat("%03u-", pass.index), name, pass.changed ? "-changed" : "", ".mlir");
}

absl::StatusOr<int> WritePassFiles(const std::vector<RecordedPass>& passes, const std::string& folder,
                                   bool changed_only) {
  TRUN_RETURN_IF_ERROR(MakeFolders(folder));
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  int written = 0;
  for (const RecordedPass& pass : passes) {
    nlohmann::ordered_json row = {{"pass", pass.name}, {"changed", pass.changed}, {"us", pass.microseconds}};
    if (pass.changed || !changed_only) {
      const std::string file = PassFileName(pass);
      TRUN_RETURN_IF_ERROR(WriteFile(absl::StrCat(folder, "/", file), std::string(pass.ir)));
      row["file"] = file;
      ++written;
    }
    list.push_back(std::move(row));
  }
  TRUN_RETURN_IF_ERROR(WriteFile(folder + "/passes.json", list.dump(1) + "\n"));
  return written;
}

}  // namespace trun::cli
