// Golden files for the tests of this room (testdata/regenerate.py makes them).
#ifndef TRUN_SERVER_ARTIFACT_TESTDATA_H_
#define TRUN_SERVER_ARTIFACT_TESTDATA_H_

#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/ir/level.h"

namespace trun {

// Tests run in this room's folder.
inline std::string ReadTestFile(absl::string_view path) {
  std::ifstream in(absl::StrCat("testdata/", path), std::ios::binary);
  if (!in) throw std::runtime_error(absl::StrCat("no file testdata/", path));
  return std::string(std::istreambuf_iterator<char>(in), {});
}

inline std::string GoldenArtifact(absl::string_view version, absl::string_view kernel, Level level) {
  return ReadTestFile(absl::StrCat(version, "/", kernel, ".", LevelName(level)));
}

inline std::string GoldenMetadata(absl::string_view version, absl::string_view kernel) {
  return ReadTestFile(absl::StrCat(version, "/", kernel, ".json"));
}

}  // namespace trun

#endif  // TRUN_SERVER_ARTIFACT_TESTDATA_H_
