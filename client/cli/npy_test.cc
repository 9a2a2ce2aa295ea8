#include "client/cli/npy.h"

#include <cstring>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace trun::cli {
namespace {

using ::testing::HasSubstr;

std::string File(const std::string& header, const std::string& data, int version = 1) {
  std::string file("\x93NUMPY", 6);
  file.push_back(static_cast<char>(version));
  file.push_back('\0');
  for (int i = 0; i < (version == 1 ? 2 : 4); ++i)
    file.push_back(static_cast<char>(header.size() >> (8 * i)));
  return file + header + data;
}

std::string Header(const std::string& descr, const std::string& shape, const std::string& fortran = "False") {
  return absl::StrCat("{'descr': '", descr, "', 'fortran_order': ", fortran, ", 'shape': ", shape,
                      ", }   \n");
}

void ExpectRefused(const std::string& file, const std::string& why) {
  const absl::StatusOr<NpyArray> array = ParseNpy(file);
  EXPECT_EQ(array.status().code(), absl::StatusCode::kInvalidArgument) << why;
  EXPECT_THAT(std::string(array.status().message()), HasSubstr(why));
}

TEST(NpyTest, WhatIsNoNpyFileIsRefusedWithTheReason) {
  ExpectRefused("", "begin");
  ExpectRefused("PK\x03\x04 a zip archive of arrays", "begin");
  ExpectRefused(File(Header("<f4", "(1,)"), "1234", 9), "version");
  ExpectRefused(File(Header("<f4", "(1,)"), "1234").substr(0, 40), "cut short");
  ExpectRefused(File(Header("<f4", "(2,)"), "1234"), "needs 8 bytes");
  ExpectRefused(File(Header("<f4", "(1,)"), "12345"), "needs 4 bytes");
  ExpectRefused(File(Header(">f4", "(1,)"), "1234"), "'>f4'");
  ExpectRefused(File(Header("|O", "(1,)"), "1234"), "'|O'");
  ExpectRefused(File(Header("<c8", "(1,)"), "12345678"), "'<c8'");
  ExpectRefused(File("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", "1234"), "records");
  ExpectRefused(File("{'descr': '<f4', 'shape': (1,)}", "1234"), "lacks");
  ExpectRefused(File("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", "1234"),
                "'descr'");
  ExpectRefused(File("{'descr': '<f4', 'fortran_order': 0, 'shape': (1,)}", "1234"),
                "neither True nor False");
  ExpectRefused(File("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", "1234"), "shape");
  ExpectRefused(File("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} __import__('os')", "1234"),
                "follows");
}

TEST(NpyTest, AShapeLargerThanMemoryIsRefusedBeforeAnythingIsAllocated) {
  const absl::StatusOr<NpyArray> array =
      ParseNpy(File(Header("<f8", "(4294967296, 4294967296, 4294967296)"), "12345678"));
  EXPECT_EQ(array.status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(NpyTest, EveryPrefixOfAFileIsRefusedWithoutHarm) {
  const std::string whole = FormatNpy(ScalarType::kF32, {2, 3}, std::string(24, 'x'));
  for (size_t length = 0; length < whole.size(); ++length) {
    EXPECT_FALSE(ParseNpy(whole.substr(0, length)).ok()) << length;
  }
  EXPECT_TRUE(ParseNpy(whole).ok());
}

TEST(NpyTest, EveryTypeIsReadAsItWasWritten) {
  for (int type = 1; type <= 18; ++type) {
    const ScalarType dtype = static_cast<ScalarType>(type);
    const std::string data(6 * ScalarTypeBytes(dtype), '\x01');
    const std::string file = FormatNpy(dtype, {2, 3}, data);
    EXPECT_EQ((file.size() - data.size()) % 64, 0u) << "NumPy wants the data aligned";
    const absl::StatusOr<NpyArray> array = ParseNpy(file);
    ASSERT_TRUE(array.ok()) << array.status();
    EXPECT_EQ(array->data, data);
    EXPECT_EQ(array->shape, (std::vector<uint64_t>{2, 3}));
    const bool raw = dtype == ScalarType::kBf16 || dtype >= ScalarType::kF8E4M3;
    EXPECT_EQ(array->dtype, raw ? ScalarType::kUnspecified : dtype);
    EXPECT_EQ(array->element_bytes, ScalarTypeBytes(dtype));
  }
}

TEST(NpyTest, ScalarsVectorsAndLaterVersionsAreRead) {
  EXPECT_TRUE(ParseNpy(File(Header("<f8", "()"), "12345678"))->shape.empty());
  EXPECT_EQ(ParseNpy(File(Header("|u1", "(3,)"), "abc", 2))->shape, std::vector<uint64_t>{3});
  EXPECT_EQ(ParseNpy(File(Header("|b1", "(0, 5)"), "", 3))->data, "");
  EXPECT_TRUE(ParseNpy(FormatNpy(ScalarType::kI32, {}, "abcd")).ok());
}

TEST(NpyTest, FortranOrderIsTurnedIntoRowMajor) {
  // [[a b c] [d e f]] stored by columns.
  const absl::StatusOr<NpyArray> array = ParseNpy(File(Header("|u1", "(2, 3)", "True"), "adbecf"));
  ASSERT_TRUE(array.ok());
  EXPECT_EQ(array->data, "abcdef");
}

TEST(NpyTest, AFileThatIsNotThereSaysItsName) {
  const absl::Status status = ReadNpy("/nonexistent/x.npy").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("/nonexistent/x.npy"));
}

}  // namespace
}  // namespace trun::cli
