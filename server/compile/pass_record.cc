#include "server/compile/pass_record.h"

#include <nlohmann/json.hpp>

namespace trun {
namespace {

void AppendLength(size_t length, std::string* to) {
  for (int shift = 0; shift < 32; shift += 8) to->push_back(static_cast<char>(length >> shift & 0xff));
}

}  // namespace

void AppendPass(const PassResult& pass, std::string* record) {
  const nlohmann::json header = {{"changed", pass.changed},
                                 {"index", pass.index},
                                 {"name", pass.name},
                                 {"ns", absl::ToInt64Nanoseconds(pass.time)},
                                 {"stage", std::string(LevelName(pass.stage))}};
  const std::string text = header.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  AppendLength(text.size(), record);
  AppendLength(pass.ir.size(), record);
  record->append(text).append(pass.ir);
}

}  // namespace trun
