// The record of a compile's passes: an artifact of level kPasses. Bytes: docs/formats/passes.md.
#ifndef TRUN_SERVER_COMPILE_PASS_RECORD_H_
#define TRUN_SERVER_COMPILE_PASS_RECORD_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "server/toolchain/toolchain.h"

namespace trun {

inline constexpr absl::string_view kPassRecordMagic = "TRUNPASS";
inline constexpr uint64_t kMaxPassRecordBytes = uint64_t{256} << 20;

// Appends one pass to a record that begins with the magic. Pure.
void AppendPass(const PassResult& pass, std::string* record);

}  // namespace trun

#endif  // TRUN_SERVER_COMPILE_PASS_RECORD_H_
