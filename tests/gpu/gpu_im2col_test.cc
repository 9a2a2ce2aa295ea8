// Tensor maps of im2col mode on the GPU and on the emulator: the same bytes in shared memory, which are those
// that the PTX ISA's section on that mode says. Where there is no GPU, the emulator alone. The kernels are
// testdata/im2col.ptx.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "tests/gpu/gpu_session_fixture.h"

namespace trun {
namespace {

// All of it innermost dimension first: channels, spatial dimensions, images.
struct Im2colCase {
  const char* name;
  ScalarType dtype;
  uint32_t element;  // number of tensormap.replace's elemtype
  std::vector<uint64_t> extents;
  uint32_t channels, pixels;
  uint32_t swizzle;  // 0 none, 1 32 B, 2 64 B, 3 128 B
  std::vector<int32_t> lower, upper;
  std::vector<uint32_t> steps;  // of the spatial dimensions
  std::vector<int32_t> start;
  std::vector<uint32_t> offsets;
  bool nan = false;
  bool tf32 = false;

  size_t rank() const { return extents.size(); }
  uint32_t element_bytes() const { return static_cast<uint32_t>(ScalarTypeBytes(dtype)); }
  uint32_t bytes() const { return channels * pixels * element_bytes(); }
};

// What an H100 fills with, in each 16 bits, where NaN is asked for.
constexpr uint16_t kNan = 0x7ff7;

std::vector<Im2colCase> Cases() {
  const auto f16 = ScalarType::kF16, f32 = ScalarType::kF32, u8 = ScalarType::kU8;
  return {
      // PTX ISA, "im2col mode", examples 1 and 2, with fewer images.
      {"example 1", f16, 6, {64, 9, 14, 3}, 8, 64, 0, {-1, -1}, {-1, -1}, {1, 1}, {0, 7, 7, 1}, {0, 0}},
      {"example 2", f16, 6, {64, 9, 14, 3}, 8, 64, 0, {0, 0}, {-2, -2}, {1, 1}, {0, 6, 7, 1}, {2, 2}},
      {"a row of one image",
       f16,
       6,
       {64, 9, 14, 2},
       64,
       4,
       3,
       {-1, -1},
       {-1, -1},
       {1, 1},
       {0, 2, 3, 0},
       {1, 1}},
      {"into the next image",
       f16,
       6,
       {64, 9, 14, 2},
       64,
       128,
       3,
       {-1, -1},
       {-1, -1},
       {1, 1},
       {0, 4, 9, 0},
       {2, 0}},
      {"past the last image",
       f16,
       6,
       {64, 5, 4, 2},
       64,
       64,
       3,
       {-1, -1},
       {-1, -1},
       {1, 1},
       {0, -1, 2, 1},
       {0, 2}},
      {"past the last channel",
       f16,
       6,
       {40, 6, 5, 2},
       32,
       40,
       2,
       {0, 0},
       {0, 0},
       {1, 1},
       {32, 1, 1, 0},
       {0, 0}},
      {"every second pixel",
       f32,
       7,
       {16, 8, 14, 2},
       16,
       32,
       2,
       {-1, -1},
       {-1, -1},
       {2, 2},
       {0, 5, 5, 0},
       {1, 1}},
      {"steps of 3 and 2", f32, 7, {16, 11, 9, 2}, 8, 48, 1, {-2, -1}, {1, 0}, {3, 2}, {8, 1, -1, 0}, {1, 0}},
      {"dilated, far offsets",
       f16,
       6,
       {32, 40, 9, 1},
       32,
       32,
       2,
       {-8, 0},
       {-30, -6},
       {1, 1},
       {0, -8, 0, 0},
       {36, 6}},
      {"a box larger than the image",
       f16,
       6,
       {16, 3, 3, 2},
       16,
       60,
       1,
       {-3, -2},
       {4, 1},
       {1, 1},
       {0, -3, -2, 0},
       {0, 1}},
      {"NaN out of bounds",
       f32,
       7,
       {32, 5, 5, 1},
       32,
       36,
       3,
       {-1, -1},
       {-1, -1},
       {1, 1},
       {0, -1, -1, 0},
       {0, 0},
       true},
      {"halves, NaN out of bounds",
       f16,
       6,
       {24, 5, 5, 1},
       32,
       30,
       2,
       {-1, -1},
       {-1, -1},
       {1, 1},
       {0, 0, 0, 0},
       {2, 2},
       true},
      {"rounded to tf32",
       f32,
       7,
       {16, 5, 5, 1},
       16,
       25,
       2,
       {0, 0},
       {0, 0},
       {1, 1},
       {0, 0, 0, 0},
       {0, 1},
       false,
       true},
      {"bytes", u8, 0, {64, 6, 5, 2}, 48, 50, 0, {-1, -1}, {-1, -1}, {1, 1}, {16, 0, 1, 0}, {1, 2}},
      {"1024 pixels",
       u8,
       0,
       {256, 20, 21, 3},
       128,
       1024,
       3,
       {-1, -1},
       {-1, -1},
       {1, 1},
       {128, 3, 4, 0},
       {1, 1}},
      {"one spatial dimension", f16, 6, {64, 50, 3}, 64, 100, 3, {-300}, {299}, {1}, {0, -10, 0}, {5}},
      {"one, far offset", f16, 6, {16, 2000, 2}, 16, 64, 1, {-1000}, {-1500}, {1}, {0, 450, 0}, {1400}},
      {"one, every seventh", f32, 7, {8, 100, 4}, 8, 64, 1, {-2}, {1}, {7}, {0, 5, 1}, {2}},
      {"three spatial dimensions",
       f16,
       6,
       {32, 5, 4, 3, 2},
       32,
       96,
       2,
       {-1, -1, -1},
       {-1, -1, -1},
       {1, 1, 1},
       {0, 2, 1, 0, 0},
       {1, 2, 0}},
      {"three, corners of their own",
       f16,
       6,
       {16, 6, 5, 4, 2},
       16,
       128,
       1,
       {-2, 0, 1},
       {1, -1, -1},
       {1, 2, 3},
       {0, -1, 2, 1, 0},
       {3, 1, 0}},
      {"three, into the next image",
       f32,
       7,
       {8, 7, 5, 3, 3},
       8,
       200,
       1,
       {-1, 0, -1},
       {-1, -2, 0},
       {2, 1, 2},
       {0, 3, 1, 1, 0},
       {1, 2, 1}},
  };
}

uint32_t ElementOf(const Im2colCase& c, uint64_t element) {
  const uint32_t mixed = static_cast<uint32_t>(element) * 2654435761u;
  if (c.dtype == ScalarType::kU8) return mixed >> 24;
  // Floats between 1 and 2: their bits come back as they are, and no two neighbours are the same.
  return c.dtype == ScalarType::kF16 ? 0x3c00 | (mixed >> 22) : 0x3f800000 | (mixed >> 9);
}

uint32_t RoundedToTf32(uint32_t bits) { return (bits + 0x1000) & 0xffffe000; }

// Where the swizzle puts a byte of a box that begins at a multiple of 1024.
uint32_t Swizzled(uint32_t swizzle, uint32_t at) {
  const uint32_t mask = swizzle == 0 ? 0 : (1u << swizzle) - 1;
  return at ^ (((at >> 7) & mask) << 4);
}

// By division from the number of each pixel, where a device counts up.
std::string Expected(const Im2colCase& c) {
  const size_t spatial = c.rank() - 2;
  std::vector<int64_t> places(
      spatial);  // that a column comes to in each dimension, once it is past the start's
  for (size_t d = 0; d < spatial; ++d) {
    const int64_t end = static_cast<int64_t>(c.extents[d + 1]) + c.upper[d];
    places[d] = (end - c.lower[d] + c.steps[d] - 1) / c.steps[d];
  }
  std::string out(c.bytes(), '\0');
  for (uint32_t pixel = 0; pixel < c.pixels; ++pixel) {
    // The first row goes on from the start, which need not be a place of the others; so does the first plane.
    std::vector<int64_t> at(c.start.begin() + 1, c.start.end());
    int64_t left = pixel;
    for (size_t d = 0; d < spatial && left > 0; ++d) {
      const int64_t end = static_cast<int64_t>(c.extents[d + 1]) + c.upper[d];
      const int64_t first = std::max<int64_t>((end - c.start[d + 1] + c.steps[d] - 1) / c.steps[d], 1);
      if (left < first) {
        at[d] += left * c.steps[d];
        left = 0;
      } else {
        left -= first;
        at[d] = c.lower[d] + left % places[d] * c.steps[d];
        left = left / places[d] + 1;
      }
    }
    at[spatial] += left;
    bool inside = at[spatial] >= 0 && at[spatial] < static_cast<int64_t>(c.extents.back());
    uint64_t row = static_cast<uint64_t>(std::max<int64_t>(at[spatial], 0));
    for (size_t d = spatial; d-- > 0;) {
      const int64_t place = at[d] + c.offsets[d];
      inside &= place >= 0 && place < static_cast<int64_t>(c.extents[d + 1]);
      row = row * c.extents[d + 1] + static_cast<uint64_t>(std::max<int64_t>(place, 0));
    }
    for (uint32_t i = 0; i < c.channels; ++i) {
      const uint64_t channel = static_cast<uint64_t>(c.start[0]) + i;
      const uint32_t to = Swizzled(c.swizzle, (pixel * c.channels + i) * c.element_bytes());
      if (inside && channel < c.extents[0]) {
        uint32_t value = ElementOf(c, row * c.extents[0] + channel);
        if (c.tf32) value = RoundedToTf32(value);
        std::memcpy(&out[to], &value, c.element_bytes());
      } else if (c.nan) {
        for (uint32_t b = 0; b < c.element_bytes(); b += 2) std::memcpy(&out[to + b], &kNan, 2);
      }
    }
  }
  return out;
}

class GpuIm2colTest : public GpuSessionTest {
 protected:
  void SetUp() override { Start(/*warm_spares=*/false, /*with_emulator=*/true); }

  static std::shared_ptr<const CompiledKernel> KernelOf(const Im2colCase& c) {
    auto kernel = std::make_shared<CompiledKernel>();
    const std::string name = absl::StrCat("im2col", c.rank());
    KernelArgument descriptor = {"map", KernelArgument::Kind::kTensorDescriptor, c.dtype, 128, 1, ""};
    descriptor.descriptor_type =
        absl::StrCat(ScalarTypeName(c.dtype), "[", c.pixels, ", ", c.channels, "], input_rank=", c.rank());
    kernel->signature = {name, {descriptor, Pointer()}};
    for (size_t i = 0; i < 2 * c.rank() - 1; ++i) kernel->signature.arguments.push_back(Word());
    kernel->metadata.name = name;
    kernel->metadata.num_warps = 4;
    kernel->metadata.triton_version = "3.2.0";
    kernel->metadata.shared_bytes = c.bytes() + 16;
    kernel->metadata.raw_json =
        absl::StrCat(R"({"tensordesc_meta": [{"is_im2col": true, "fp4_padded": false, "swizzle": )",
                     c.swizzle, R"(, "elem_size": )", c.element_bytes(), R"(, "elem_type": )", c.element,
                     R"(, "block_size": [)", c.pixels, ", ", c.channels, "]}]}");
    kernel->artifacts[Level::kCubin] = {Level::kCubin, TestData("im2col.sm_90.cubin")};
    kernel->artifacts[Level::kPtx] = {Level::kPtx, TestData("im2col.ptx")};
    return kernel;
  }

  static absl::StatusOr<std::string> Run(Session& session, const Im2colCase& c) {
    TensorSpec source{c.dtype, {}};
    uint64_t elements = 1;
    for (const uint64_t extent : c.extents) elements *= extent;
    source.shape.assign(c.extents.rbegin(), c.extents.rend());
    TRUN_ASSIGN_OR_RETURN(const std::vector<TensorInfo> tensors,
                          session.Allocate({source, TensorSpec{ScalarType::kU8, {c.bytes()}}}));
    std::string data(elements * c.element_bytes(), '\0');
    for (uint64_t i = 0; i < elements; ++i) {
      const uint32_t value = ElementOf(c, i);
      std::memcpy(&data[i * c.element_bytes()], &value, c.element_bytes());
    }
    TRUN_RETURN_IF_ERROR(session.Write(tensors[0].handle, 0, data));
    TensorDescriptor descriptor;
    descriptor.base = {tensors[0].handle, 0};
    descriptor.shape.assign(c.extents.rbegin(), c.extents.rend());
    descriptor.strides.assign(c.rank(), 1);
    for (size_t i = c.rank() - 1; i > 0; --i) {
      descriptor.strides[i - 1] = descriptor.strides[i] * static_cast<int64_t>(descriptor.shape[i]);
    }
    descriptor.block_shape = {c.pixels, c.channels};
    descriptor.padding_nan = c.nan;
    descriptor.round_f32_to_tf32 = c.tf32;
    descriptor.im2col.emplace();
    descriptor.im2col->lower_corner.assign(c.lower.rbegin(), c.lower.rend());
    descriptor.im2col->upper_corner.assign(c.upper.rbegin(), c.upper.rend());
    descriptor.im2col->element_strides = {1};
    descriptor.im2col->element_strides.insert(descriptor.im2col->element_strides.end(), c.steps.rbegin(),
                                              c.steps.rend());
    descriptor.im2col->element_strides.push_back(1);
    SessionLaunch launch;
    TRUN_ASSIGN_OR_RETURN(launch.kernel, session.AddKernel(KernelOf(c)));
    launch.grid = {1};
    launch.arguments = {descriptor, TensorReference{tensors[1].handle, 0}, int64_t{c.bytes()}};
    for (const int32_t coordinate : c.start) launch.arguments.emplace_back(int64_t{coordinate});
    for (const uint32_t offset : c.offsets) launch.arguments.emplace_back(int64_t{offset});
    TRUN_RETURN_IF_ERROR(GpuSessionTest::Run(session, launch).status);
    std::string out(c.bytes(), '\0');
    TRUN_RETURN_IF_ERROR(session.Read(tensors[1].handle, 0, absl::MakeSpan(&out[0], out.size())));
    return out;
  }
};

TEST_F(GpuIm2colTest, AColumnIsTheSameBytesOnEveryDevice) {
  std::vector<std::string> devices = {"emulator:0"};
  if (OnARealGpu()) devices.push_back("cuda:0");
  for (const std::string& device : devices) {
    const auto session = Open(device);
    ASSERT_NE(session, nullptr);
    for (const Im2colCase& c : Cases()) {
      const auto got = Run(*session, c);
      ASSERT_TRUE(got.ok()) << device << ", " << c.name << ": " << got.status();
      const std::string expected = Expected(c);
      const auto [at, other] = std::mismatch(got->begin(), got->end(), expected.begin());
      EXPECT_TRUE(at == got->end()) << device << ", " << c.name << ": byte " << at - got->begin() << " of "
                                    << got->size() << " is " << static_cast<int>(static_cast<uint8_t>(*at))
                                    << ", not " << static_cast<int>(static_cast<uint8_t>(*other));
    }
  }
}

// The emulator alone says this; a GPU would take the bits that fit.
TEST_F(GpuIm2colTest, AnOffsetPastItsBitsIsReportedByTheEmulator) {
  const auto session = Open("emulator:0");
  ASSERT_NE(session, nullptr);
  for (const auto& [name, offset] :
       {std::pair<const char*, uint32_t>{"example 1", 256}, {"three spatial dimensions", 32}}) {
    const std::vector<Im2colCase> cases = Cases();
    Im2colCase c =
        *std::find_if(cases.begin(), cases.end(),
                      [name = std::string(name)](const Im2colCase& one) { return one.name == name; });
    c.offsets[0] = offset;
    const absl::Status status = Run(*session, c).status();
    EXPECT_EQ(GetReason(status), Reason::kIllegalAddress) << status;
    EXPECT_NE(status.message().find(absl::StrCat("an im2col offset of ", offset)), absl::string_view::npos)
        << status;
  }
}

}  // namespace
}  // namespace trun
