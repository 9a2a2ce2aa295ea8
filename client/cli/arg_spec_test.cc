#include "client/cli/arg_spec.h"

#include <cmath>

#include "client/cli/element.h"
#include "common/base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace trun::cli {
namespace {

using ::testing::HasSubstr;

ArgSpec Parse(const std::string& text, bool output = false) {
  absl::StatusOr<ArgSpec> spec = ParseArgSpec(text, output);
  EXPECT_TRUE(spec.ok()) << spec.status();
  return spec.value_or(ArgSpec{});
}

void ExpectRefused(const std::string& text, const std::string& why, bool output = false) {
  const absl::Status status = ParseArgSpec(text, output).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
  EXPECT_EQ(GetReason(status), Reason::kArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr(why)) << text;
}

ArgumentInfo Pointer(const std::string& name, ScalarType dtype = ScalarType::kF32) {
  ArgumentInfo info;
  info.name = name;
  info.kind = ArgumentInfo::Kind::kPointer;
  info.dtype = dtype;
  return info;
}

ArgumentInfo Scalar(const std::string& name, ScalarType dtype = ScalarType::kI32) {
  ArgumentInfo info;
  info.name = name;
  info.dtype = dtype;
  return info;
}

const std::vector<ArgumentInfo> kAdd = {Pointer("x"), Pointer("y"), Scalar("n")};

TEST(ArgSpecTest, WhatIsNoArgumentIsRefusedWithTheReason) {
  ExpectRefused("x", "NAME=VALUE");
  ExpectRefused("=3", "neither a name nor a position");
  ExpectRefused("a-b=3", "neither a name nor a position");
  ExpectRefused("99999=3", "neither a name nor a position");
  ExpectRefused("x=", "value is missing");
  ExpectRefused("x=f16[4", "']'");
  ExpectRefused("x=half3[4]", "half3");
  ExpectRefused("x=f16[4,,2]", "dimension is missing");
  ExpectRefused("x=f16[4]randn", "generator");
  ExpectRefused("x=f16[4]:normal", "'normal' is not a generator");
  ExpectRefused("x=f16[4]:randn(seed=-1)", "seed");
  ExpectRefused("x=f16[4]:randn(sed=1)", "no parameter 'sed'");
  ExpectRefused("x=f16[4]:randn(1, seed=1)", "twice");
  ExpectRefused("x=f16[4]:full", "needs its value");
  ExpectRefused("x=f16[4]:zeros(1)", "fewer parameters");
  ExpectRefused("x=f16[4]:randn(1", "parenthesis");
  ExpectRefused("x=i32[4]:randint(1, 5, 5)", "lo < hi");
  ExpectRefused("x=@", "file's name");
  ExpectRefused("x=half3@x.npy", "half3");
  ExpectRefused("c=5", "an output is a tensor", true);
}

TEST(ArgSpecTest, TensorsFilesAndScalarsAreToldApart) {
  const ArgSpec tensor = Parse("a = f16[512, M*2] : randn(seed=7, std=0.5)");
  EXPECT_EQ(tensor.key, "a");
  const GeneratedTensor& generated = std::get<GeneratedTensor>(tensor.value);
  EXPECT_EQ(generated.dtype, ScalarType::kF16);
  EXPECT_THAT(generated.dimensions, ::testing::ElementsAre("512", "M*2"));
  EXPECT_EQ(generated.generator.seed, 7u);
  EXPECT_EQ(generated.generator.high, 0.5);
  EXPECT_EQ(std::get<FileTensor>(Parse("0=@dir/x=1.npy").value).path, "dir/x=1.npy");
  EXPECT_EQ(std::get<FileTensor>(Parse("x=bf16@x.npy").value).dtype, ScalarType::kBf16);
  EXPECT_TRUE(std::get<GeneratedTensor>(Parse("s=f32[]").value).dimensions.empty());
  EXPECT_EQ(std::get<IntegerScalar>(Parse("n=512").value).expression, "512");
  EXPECT_EQ(std::get<IntegerScalar>(Parse("n=cdiv(M,64)").value).expression, "cdiv(M,64)");
  EXPECT_EQ(std::get<IntegerScalar>(Parse("flag=True").value).expression, "1");
  EXPECT_EQ(std::get<FloatScalar>(Parse("eps=1e-5").value).value, 1e-5);
  EXPECT_EQ(std::get<FloatScalar>(Parse("x=-inf").value).value, -INFINITY);
  EXPECT_TRUE(std::isnan(std::get<FloatScalar>(Parse("x=nan").value).value));
  EXPECT_TRUE(std::holds_alternative<NullPointer>(Parse("p=null").value));
}

TEST(Im2colTest, WhatNamesNoTensorOrIsNoListOfNumbersIsRefused) {
  std::vector<ArgSpec> specs = {Parse("x=f16[2,14,9,64]")};
  for (const char* bad :
       {"x", "x=", "x=-1,-1", "x=-1,-1:a", "x=-1,,1:0", "x=0:0:1:1", "x=0:0:-1", "x=0:4294967296"}) {
    const absl::Status status = AddIm2col(bad, &specs);
    EXPECT_EQ(GetReason(status), Reason::kArgument) << bad;
    EXPECT_THAT(std::string(status.message()), HasSubstr("NAME=LOWER:UPPER[:STRIDES]")) << bad;
  }
  EXPECT_THAT(std::string(AddIm2col("y=0:0", &specs).message()),
              HasSubstr("no --arg or --out is called 'y'"));
  EXPECT_FALSE(specs[0].im2col.has_value());
}

TEST(Im2colTest, CornersAndStepsAreOfTheArgumentThatTheyName) {
  std::vector<ArgSpec> specs = {Parse("y=f16[4]"), Parse("x=f16[2,14,9,64]")};
  ASSERT_TRUE(AddIm2col("x=-1,-2:3,-4", &specs).ok());
  EXPECT_FALSE(specs[0].im2col.has_value());
  EXPECT_THAT(specs[1].im2col->lower_corner, ::testing::ElementsAre(-1, -2));
  EXPECT_THAT(specs[1].im2col->upper_corner, ::testing::ElementsAre(3, -4));
  EXPECT_TRUE(specs[1].im2col->element_strides.empty());
  ASSERT_TRUE(AddIm2col(" x =0:0:1,2,1", &specs).ok());
  EXPECT_THAT(specs[1].im2col->element_strides, ::testing::ElementsAre(1, 2, 1));
}

TEST(BindTest, EveryMissingArgumentIsNamed) {
  const absl::Status status = BindArguments({Parse("y=f32[4]")}, kAdd).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("0 'x' (pointer to f32), 2 'n' (i32)"));
}

TEST(BindTest, ExtraAndRepeatedArgumentsAreNamed) {
  EXPECT_THAT(std::string(BindArguments({Parse("z=f32[4]")}, kAdd).status().message()),
              HasSubstr("no argument 'z'"));
  EXPECT_THAT(std::string(BindArguments({Parse("3=f32[4]")}, kAdd).status().message()),
              HasSubstr("no argument 3"));
  EXPECT_THAT(std::string(BindArguments({Parse("x=f32[4]"), Parse("0=f32[4]")}, kAdd).status().message()),
              HasSubstr("given twice"));
}

TEST(BindTest, ATensorIsNoScalarAndAScalarNoTensor) {
  const auto message = [](const std::string& text) {
    return std::string(BindArguments({Parse(text)}, kAdd).status().message());
  };
  EXPECT_THAT(message("n=f32[4]"), HasSubstr("2 'n' (i32) is a scalar"));
  EXPECT_THAT(message("x=4"), HasSubstr("0 'x' (pointer to f32) is a pointer"));
  EXPECT_THAT(message("n=null"), HasSubstr("is a scalar"));
  EXPECT_TRUE(BindArguments({Parse("x=null"), Parse("y=f32[1]"), Parse("n=1")}, kAdd).ok());
}

TEST(BindTest, PositionsAlwaysWorkAndNamesOnlyWhereTheFileHasThem) {
  const std::vector<ArgumentInfo> nameless = {Pointer(""), Scalar("")};
  EXPECT_THAT(std::string(BindArguments({Parse("x=f32[4]")}, nameless).status().message()),
              HasSubstr("no argument names"));
  const absl::StatusOr<std::vector<size_t>> bound =
      BindArguments({Parse("1=4"), Parse("0=f32[4]")}, nameless);
  ASSERT_TRUE(bound.ok());
  EXPECT_EQ(*bound, (std::vector<size_t>{1, 0}));
}

TEST(VariablesTest, ScalarsMayBeExpressionsOverEachOtherInAnyOrder) {
  const std::vector<ArgumentInfo> infos = {Scalar("stride"), Scalar("K"), Scalar("")};
  const std::vector<ArgSpec> specs = {Parse("stride=K*2"), Parse("K=cdiv(arg2, B)"), Parse("2=100")};
  const absl::StatusOr<Variables> variables = ResolveVariables(specs, {0, 1, 2}, infos, {{"B", 32}});
  ASSERT_TRUE(variables.ok()) << variables.status();
  EXPECT_EQ(variables->at("K"), 4);
  EXPECT_EQ(variables->at("stride"), 8);
}

TEST(VariablesTest, CirclesAndUnknownNamesAreErrors) {
  const std::vector<ArgumentInfo> infos = {Scalar("a"), Scalar("b")};
  EXPECT_FALSE(ResolveVariables({Parse("a=b"), Parse("b=a")}, {0, 1}, infos, {}).ok());
  const absl::Status status = ResolveVariables({Parse("a=c+1"), Parse("b=2")}, {0, 1}, infos, {}).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("'c' is no known number"));
}

int64_t Value(const std::string& text) {
  const Variables variables = {{"M", 100}, {"K", 7}};
  const absl::StatusOr<int64_t> value = Evaluate(text, variables);
  EXPECT_TRUE(value.ok()) << value.status();
  return value.value_or(-999);
}

TEST(ExpressionTest, ComputesAsPythonDoes) {
  EXPECT_EQ(Value("1 + 2 * 3"), 7);
  EXPECT_EQ(Value("(1 + 2) * 3"), 9);
  EXPECT_EQ(Value("-7 / 2"), -4);
  EXPECT_EQ(Value("-7 // 2"), -4);
  EXPECT_EQ(Value("-7 % 3"), 2);
  EXPECT_EQ(Value("cdiv(M, 64)"), 2);
  EXPECT_EQ(Value("cdiv(-7, 2)"), -3);
  EXPECT_EQ(Value("max(min(M, K), 5) * 0x10"), 112);
  EXPECT_EQ(Value("pow2(M)"), 128);
  EXPECT_EQ(Value("--5"), 5);
}

TEST(ExpressionTest, ErrorsNameThePlace) {
  const auto message = [](const std::string& text) {
    const absl::StatusOr<int64_t> value = Evaluate(text, {{"M", 1}});
    EXPECT_FALSE(value.ok()) << text;
    return std::string(value.status().message());
  };
  EXPECT_THAT(message(""), HasSubstr("missing"));
  EXPECT_THAT(message("M +"), HasSubstr("column 4"));
  EXPECT_THAT(message("(M"), HasSubstr("')' is missing"));
  EXPECT_THAT(message("M M"), HasSubstr("not expected"));
  EXPECT_THAT(message("M / 0"), HasSubstr("division by zero"));
  EXPECT_THAT(message("cdiv(1)"), HasSubstr("takes 2 values"));
  EXPECT_THAT(message("sqrt(4)"), HasSubstr("no function 'sqrt'"));
  EXPECT_THAT(message("12abc"), HasSubstr("'12abc'"));
  EXPECT_THAT(message("9223372036854775807 + 1"), HasSubstr("does not fit"));
  EXPECT_THAT(message("(-9223372036854775807 - 1) / -1"), HasSubstr("does not fit"));
  EXPECT_THAT(message(std::string(1000, '(')), HasSubstr("too deeply"));
  EXPECT_TRUE(absl::IsNotFound(Evaluate("N", {}).status()));
}

TEST(ExpressionTest, ListsSplitAtOuterCommasOnly) {
  EXPECT_THAT(SplitExpressions("cdiv(M, 64), 4"), ::testing::ElementsAre("cdiv(M, 64)", "4"));
  EXPECT_THAT(SplitExpressions("4"), ::testing::ElementsAre("4"));
}

double At(const std::string& bytes, size_t index, ScalarType type = ScalarType::kF64) {
  return ElementAt(type, bytes, index);
}

std::string Made(const std::string& generator, const std::vector<uint64_t>& shape,
                 ScalarType type = ScalarType::kF64) {
  absl::StatusOr<Generator> parsed = ParseGenerator(generator);
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  absl::StatusOr<std::string> bytes = Generate(*parsed, type, shape);
  EXPECT_TRUE(bytes.ok()) << bytes.status();
  return bytes.value_or("");
}

// The numbers of examples/reference.py, which computes them with NumPy.
TEST(GeneratorTest, TheNumbersAreThoseOfTheNumPyTwin) {
  EXPECT_EQ(RandomBits(1, 0), 0xf4a90164c4749e1au);
  EXPECT_EQ(RandomBits(1, 1), 0xbfa9ae8d44b45a35u);
  const std::string rand = Made("rand(3, -1, 1)", {4});
  EXPECT_EQ(At(rand, 0), -0.2681225892588792);
  EXPECT_EQ(At(rand, 3), -0.5166900288961547);
  const std::string randn = Made("randn(seed=1)", {5});
  EXPECT_NEAR(At(randn, 0), -0.020661914581578594, 1e-15);
  EXPECT_NEAR(At(randn, 1), -2.4966550994580596, 1e-15);
  EXPECT_NEAR(At(randn, 4), 0.19632076976850413, 1e-15);
  const std::string randint = Made("randint(5, -10, 10)", {3}, ScalarType::kI32);
  EXPECT_EQ(At(randint, 0, ScalarType::kI32), 9);
  EXPECT_EQ(At(randint, 1, ScalarType::kI32), 9);
  EXPECT_EQ(At(randint, 2, ScalarType::kI32), -5);
}

TEST(GeneratorTest, NormalNumbersHaveTheirMeanAndSpread) {
  const std::string bytes = Made("randn(9, 2, 3)", {40000});
  double sum = 0, squares = 0;
  for (size_t i = 0; i < 40000; ++i) {
    sum += At(bytes, i);
    squares += (At(bytes, i) - 2) * (At(bytes, i) - 2);
  }
  EXPECT_NEAR(sum / 40000, 2, 0.06);
  EXPECT_NEAR(std::sqrt(squares / 40000), 3, 0.05);
}

TEST(GeneratorTest, TheFixedOnesAreWhatTheirNamesSay) {
  EXPECT_EQ(At(Made("ones", {3}), 2), 1);
  EXPECT_EQ(At(Made("full(-2.5)", {3}), 1), -2.5);
  EXPECT_EQ(At(Made("arange", {5}), 4), 4);
  EXPECT_EQ(At(Made("arange(10, -2)", {5}), 4), 2);
  EXPECT_TRUE(std::isnan(At(Made("nan", {2}), 1)));
  const std::string eye = Made("eye", {2, 3});
  EXPECT_EQ(At(eye, 0), 1);
  EXPECT_EQ(At(eye, 1), 0);
  EXPECT_EQ(At(eye, 4), 1);
  EXPECT_FALSE(Generate(*ParseGenerator("eye"), ScalarType::kF32, {4}).ok());
  EXPECT_FALSE(Generate(*ParseGenerator("nan"), ScalarType::kI32, {4}).ok());
}

}  // namespace
}  // namespace trun::cli
