#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "common/base/status.h"
#include "common/telemetry/log.h"
#include "common/telemetry/metrics.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace trun {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

class TelemetryTest : public testing::Test {
 protected:
  TelemetryTest() {
    char path[] = "/tmp/trun_test_XXXXXX";
    EXPECT_NE(mkdtemp(path), nullptr);
    folder_ = path;
  }
  ~TelemetryTest() override { std::filesystem::remove_all(folder_); }
  std::string folder_;
};

TEST_F(TelemetryTest, AFolderThatIsNotThereIsAnError) {
  EXPECT_FALSE(Metrics().WriteFile(folder_ + "/none/metrics.prom").ok());
}

TEST_F(TelemetryTest, CallsAreCountedByMethodAndCode) {
  Metrics metrics;
  metrics.Rpc("A/B")->Record(absl::StatusCode::kOk, absl::Microseconds(200));
  metrics.Rpc("A/B")->Record(absl::StatusCode::kNotFound, absl::Seconds(500));
  metrics.AddValue(Metrics::Kind::kGauge, "trun_sessions", "Open sessions", [] { return 3.0; });
  const std::string text = metrics.Text();
  EXPECT_THAT(text, HasSubstr("trun_rpcs_total{method=\"A/B\",code=\"OK\"} 1"));
  EXPECT_THAT(text, HasSubstr("trun_rpcs_total{method=\"A/B\",code=\"NOT_FOUND\"} 1"));
  EXPECT_THAT(text, HasSubstr("le=\"0.00025\"} 1"));
  EXPECT_THAT(text, HasSubstr("le=\"+Inf\"} 2"));
  EXPECT_THAT(text, HasSubstr("trun_sessions 3"));
  ASSERT_TRUE(metrics.WriteFile(folder_ + "/metrics.prom").ok());
  EXPECT_EQ(ReadFile(folder_ + "/metrics.prom"), text);
}

TEST_F(TelemetryTest, TextOfAClientCannotForgeALogLine) {
  ASSERT_TRUE(InitLog(folder_ + "/log", LogLevel::kInfo).ok());
  LogInfo("client said: a\nE forged");
  Log(LogLevel::kDebug, "not asked for");
  FlushLog();
  const std::string text = ReadFile(folder_ + "/log");
  EXPECT_THAT(text, HasSubstr("client said: a E forged\n"));
  EXPECT_THAT(text, Not(HasSubstr("not asked for")));
  EXPECT_EQ(std::filesystem::status(folder_ + "/log").permissions(),
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

TEST_F(TelemetryTest, LevelsHaveTheNamesOfTheFlag) {
  LogLevel level;
  EXPECT_FALSE(LogLevelFromName("loud", &level));
  for (const char* name : {"debug", "info", "warning", "error"})
    EXPECT_TRUE(LogLevelFromName(name, &level)) << name;
}

}  // namespace
}  // namespace trun
