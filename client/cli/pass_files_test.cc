#include "client/cli/pass_files.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "common/base/status.h"

namespace trun::cli {
namespace {

std::string Length(size_t value) {
  std::string bytes;
  for (int shift = 0; shift < 32; shift += 8) bytes.push_back(static_cast<char>(value >> shift & 0xff));
  return bytes;
}

std::string Pass(const std::string& header, const std::string& ir) {
  return Length(header.size()) + Length(ir.size()) + header + ir;
}

TEST(PassFiles, WhatIsNoRecordIsCorruptWhereverItBreaksOff) {
  const std::string whole = "TRUNPASS" + Pass(R"({"name":"ttir/cse","changed":true,"ns":1})", "module {}");
  ASSERT_TRUE(ParsePassRecord(whole).ok());
  for (size_t size = 0; size < whole.size(); ++size) {
    if (size == 8) continue;  // a record of no passes
    EXPECT_EQ(GetReason(ParsePassRecord(whole.substr(0, size)).status()), Reason::kCorrupt) << size;
  }
  for (const char* header :
       {"{]", "[]", "{}", R"({"name":1,"changed":true,"ns":1})", R"({"name":"a","ns":1})"}) {
    EXPECT_EQ(GetReason(ParsePassRecord("TRUNPASS" + Pass(header, "")).status()), Reason::kCorrupt) << header;
  }
}

TEST(PassFiles, APassThatChangedNothingHasTheTextBeforeIt) {
  const std::string record = "TRUNPASS" + Pass(R"({"name":"ttir/input","changed":true,"ns":0})", "one") +
                             Pass(R"({"name":"ttir/cse","changed":false,"ns":1500})", "") +
                             Pass(R"({"name":"ttgir/cse#2","changed":true,"ns":2})", "two");
  const auto passes = ParsePassRecord(record);
  ASSERT_TRUE(passes.ok()) << passes.status();
  ASSERT_EQ(passes->size(), 3u);
  EXPECT_EQ((*passes)[1].ir, "one");
  EXPECT_EQ((*passes)[1].microseconds, 1.5);
  EXPECT_EQ(PassFileName((*passes)[1]), "001-ttir-cse.mlir");
  EXPECT_EQ(PassFileName((*passes)[2]), "002-ttgir-cse.2-changed.mlir");
}

TEST(PassFiles, ANameCannotLeadOutOfTheFolder) {
  RecordedPass pass;
  pass.name = "../../etc/passwd";
  EXPECT_EQ(PassFileName(pass), "000-..-..-etc-passwd.mlir");
}

TEST(PassFiles, UnchangedOnesAreLeftOutOnRequestAndStillListed) {
  const std::string record = "TRUNPASS" + Pass(R"({"name":"ttir/input","changed":true,"ns":0})", "one") +
                             Pass(R"({"name":"ttir/cse","changed":false,"ns":1})", "");
  const auto passes = ParsePassRecord(record);
  ASSERT_TRUE(passes.ok());
  const std::string folder = testing::TempDir() + "/pass_files";
  std::filesystem::remove_all(folder);
  EXPECT_EQ(*WritePassFiles(*passes, folder, true), 1);
  EXPECT_FALSE(std::filesystem::exists(folder + "/001-ttir-cse.mlir"));
  EXPECT_EQ(*WritePassFiles(*passes, folder, false), 2);
  EXPECT_TRUE(std::filesystem::exists(folder + "/001-ttir-cse.mlir"));
  EXPECT_TRUE(std::filesystem::exists(folder + "/passes.json"));
}

}  // namespace
}  // namespace trun::cli
