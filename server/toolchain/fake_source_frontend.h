// A front end that runs nothing: what a bundle's text asks for is what it gets. For tests of what stands
// above.
#ifndef TRUN_SERVER_TOOLCHAIN_FAKE_SOURCE_FRONTEND_H_
#define TRUN_SERVER_TOOLCHAIN_FAKE_SOURCE_FRONTEND_H_

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "server/toolchain/source_frontend.h"

namespace trun {

// Thread-safe. A bundle is {"format":1,...} with one of these words: "wrong", "missing", "refused",
// "endless", "boundless", or a "lowered=NAME;" whose kernel is "k" (see FakeToolchain::FakeTtir).
class FakeSourceFrontend final : public SourceFrontend {
 public:
  static std::string Bundle(const std::string& word) {
    return absl::StrCat("{\"format\":1,\"text\":\"", word, "\"}");
  }

  std::string id() const override { return id_; }
  void set_id(std::string id) { id_ = std::move(id); }
  int lowered() const {
    MutexLock lock(&mu_);
    return lowered_;
  }

  absl::StatusOr<StageResult> Lower(const SourceRequest& request) override {
    {
      MutexLock lock(&mu_);
      ++lowered_;
    }
    const ErrorDetails line3 = {{"file", "/home/user/kernel.py"}, {"line", "3"}};
    const auto has = [&](const char* word) { return absl::StrContains(request.bundle, word); };
    if (!has("\"format\":1,")) return InvalidArgument(Reason::kInvalidIr, "not a source bundle");
    if (request.options.count("num_wraps") != 0) {
      return InvalidArgument(Reason::kUnknownOption, "no option num_wraps", {{"option", "num_wraps"}});
    }
    if (has("wrong")) {
      return InvalidArgument(Reason::kInvalidIr, "/home/user/kernel.py:7:9: NameError",
                             {{"file", "/home/user/kernel.py"}, {"line", "7"}, {"column", "9"}});
    }
    if (has("missing")) return InvalidArgument(Reason::kInvalidIr, "no such module", line3);
    if (has("refused")) {
      return MakeError(absl::StatusCode::kPermissionDenied, Reason::kNotPermitted, "refused", line3);
    }
    if (has("endless") && request.is_abandoned != nullptr && request.is_abandoned()) {
      return MakeError(absl::StatusCode::kCancelled, Reason::kCancelled, "nobody waits");
    }
    if (has("endless")) return DeadlineExceeded(Reason::kCompileTimeout, "it never ends");
    if (has("boundless")) return ResourceExhausted(Reason::kCompileOutOfMemory, "it takes too much");
    if (has("gluon") && request.level == Level::kPython) {
      return InvalidArgument(Reason::kInvalidIr, "this is a Gluon kernel");
    }
    StageResult result;
    result.level = LoweredLevel(request.level);
    result.bytes = absl::StrCat(
        "// lowered=", has("lowered=b") ? "b" : "a", "\nmodule attributes {\"ttg.num-warps\" = 4 : i32} {\n",
        "  tt.func public @k(%x: !tt.ptr<f32> {tt.divisibility = 16 : i32}, %n: i32) ",
        "attributes {noinline = false} {\n    tt.return\n  }\n}\n");
    result.metadata_json = R"({"num_warps":4,"triton_version":"9.9.9"})";
    result.time = absl::Milliseconds(1);
    return result;
  }

 private:
  std::string id_ = "fake front end";
  mutable Mutex mu_;
  int lowered_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace trun

#endif  // TRUN_SERVER_TOOLCHAIN_FAKE_SOURCE_FRONTEND_H_
