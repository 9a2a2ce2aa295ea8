#include "client/cli/python_kernel.h"

#include "common/base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace trun::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kText[] = R"(import triton
import triton.language as tl

def host(): ...

@triton.jit
def add(x_ptr, y_ptr,  # two, (really)
        n, scale=1.5, bias_ptr=None,
        BLOCK: tl.constexpr = 64, MODE: "tl.constexpr" = "a, b"):
    pass

@gluon.jit
def other(p, L: gl.constexpr):
    pass

@triton.jit
def endless(x,
)";

PythonKernel Add() { return *ParsePythonKernel("k.py", "add", kText); }

TEST(PythonKernelTest, OnlyAFileAndAFunctionAreOne) {
  for (const char* path : {"k.py", "k.ttir:add", "k.py:", "k.py:a b", "-", ":add"}) {
    EXPECT_FALSE(SplitPythonKernel(path).has_value()) << path;
  }
  EXPECT_EQ(SplitPythonKernel("a:b/k.py:add")->first, "a:b/k.py");
}

TEST(PythonKernelTest, AFunctionThatIsNotThereOrDoesNotEndIsInvalid) {
  for (const char* name : {"ad", "missing", "endless"}) {
    const absl::Status status = ParsePythonKernel("k.py", name, kText).status();
    EXPECT_EQ(GetReason(status), Reason::kInvalidIr) << name;
    EXPECT_THAT(std::string(status.message()), HasSubstr(name));
  }
}

TEST(PythonKernelTest, ParametersHaveNamesKindsAndDefaults) {
  const PythonKernel kernel = Add();
  ASSERT_EQ(kernel.parameters.size(), 7u);
  EXPECT_EQ(kernel.parameters[1].name, "y_ptr");
  EXPECT_EQ(kernel.parameters[3].default_text, "1.5");
  EXPECT_FALSE(kernel.parameters[3].is_constexpr);
  EXPECT_TRUE(kernel.parameters[5].is_constexpr);
  EXPECT_EQ(kernel.parameters[6].default_text, "\"a, b\"");
  EXPECT_FALSE(kernel.is_gluon);
  EXPECT_TRUE(ParsePythonKernel("k.py", "other", kText)->is_gluon);
}

TEST(PythonKernelTest, WhatIsMissingUnknownOrTwiceIsNamed) {
  const auto message = [](const std::vector<std::string>& arguments) {
    const absl::Status status = SpecialiseArguments(Add(), arguments, {}, {}).status();
    EXPECT_EQ(GetReason(status), Reason::kArgument) << status;
    return std::string(status.message());
  };
  EXPECT_THAT(message({"x_ptr=f32[4]"}), HasSubstr("lacks --arg for y_ptr, n"));
  EXPECT_THAT(message({"z=4"}), HasSubstr("'z=4'"));
  EXPECT_THAT(message({"n=4", "2=5"}), HasSubstr("twice"));
}

TEST(PythonKernelTest, ArgumentsAreSpecialisedAsTritonDoes) {
  const auto made =
      SpecialiseArguments(Add(), {"x_ptr=f32[n]", "n=BLOCK*2", "BLOCK=128"}, {"y_ptr=bf16[n]"}, {});
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_THAT(made->names, ElementsAre("x_ptr", "y_ptr", "n", "scale"));
  EXPECT_EQ(made->constants.at("BLOCK"), 128);
  const nlohmann::json bundle = nlohmann::json::parse(made->bundle);
  const nlohmann::json& arguments = bundle["arguments"];
  EXPECT_EQ(arguments["y_ptr"]["dtype"], "bf16");
  EXPECT_EQ(arguments["n"], (nlohmann::json{{"kind", "scalar"}, {"dtype", "i32"}, {"divisible", true}}));
  EXPECT_EQ(arguments["scale"]["dtype"], "f32");
  EXPECT_EQ(arguments["bias_ptr"], (nlohmann::json{{"kind", "constexpr"}, {"value", nullptr}}));
  EXPECT_EQ(arguments["MODE"]["value"], "a, b");
  const auto one = SpecialiseArguments(Add(), {"x_ptr=f32[n]", "y_ptr=f32[n]", "n=1"}, {}, {});
  EXPECT_THAT(one->names, ElementsAre("x_ptr", "y_ptr", "scale"));
  EXPECT_EQ(one->constants.at("n"), 1);
}

TEST(PythonKernelTest, ASignatureNamesTypesAndValues) {
  const auto bundle = BundleOfSignature(Add(), "*fp32:16, *f32, i32:16, fp32, None, 64, tl.float32");
  ASSERT_TRUE(bundle.ok()) << bundle.status();
  const nlohmann::json arguments = nlohmann::json::parse(*bundle)["arguments"];
  EXPECT_EQ(arguments["x_ptr"], (nlohmann::json{{"kind", "pointer"}, {"dtype", "f32"}, {"divisible", true}}));
  EXPECT_EQ(arguments["bias_ptr"]["kind"], "constexpr");
  EXPECT_EQ(arguments["MODE"]["value"]["symbol"], "triton.language.float32");
  EXPECT_EQ(GetReason(BundleOfSignature(Add(), "*fp32").status()), Reason::kArgument);
  EXPECT_FALSE(BundleOfSignature(Add(), "*nothing, *f32, i32, f32, None, 64, a").ok());
}

}  // namespace
}  // namespace trun::cli
