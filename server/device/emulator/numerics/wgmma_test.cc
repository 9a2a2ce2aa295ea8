#include "server/device/emulator/numerics/wgmma.h"

#include <array>
#include <bit>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/device/emulator/numerics/convert.h"
#include "server/device/emulator/numerics/matrix.h"

namespace trun::device::numerics {
namespace {

uint64_t Field(uint32_t bytes) { return bytes >> 4 & 0x3fff; }

uint64_t Encode(uint32_t start, uint32_t leading, uint32_t stride, Swizzle swizzle) {
  constexpr uint64_t kModes[4] = {0, 3, 2, 1};
  return Field(start) | Field(leading) << 16 | Field(stride) << 32 | kModes[static_cast<int>(swizzle)] << 62;
}

// A K-major operand laid out as a TMA load with this swizzle lays it out: rows of `width` bytes, 8 rows a
// pattern. Returns the descriptor.
uint64_t PlaceRows(std::vector<uint8_t>& shared, uint32_t start, Swizzle swizzle, int rows,
                   const uint8_t* bytes) {
  const uint32_t width = swizzle == Swizzle::k32 ? 32 : (swizzle == Swizzle::k64 ? 64 : 128);
  for (int r = 0; r < rows; ++r) {
    for (uint32_t x = 0; x < 32; ++x) {
      uint32_t at;
      if (swizzle == Swizzle::kNone) {  // 8 x 16-byte blocks, the two along K next to each other
        at = start + r / 8 * 256 + x / 16 * 128 + r % 8 * 16 + x % 16;
      } else {
        const uint32_t row_start = start + static_cast<uint32_t>(r) * width;
        const uint32_t unit = (row_start + x) / 16 % 8;
        const uint32_t mask = width / 16 - 1;
        const uint32_t flipped = unit ^ ((row_start + x) / 128 & mask);
        at = (row_start + x) / 128 * 128 + flipped * 16 + x % 16;
      }
      shared[at] = bytes[r * 32 + static_cast<int>(x)];
    }
  }
  return swizzle == Swizzle::kNone ? Encode(start, 128, 256, swizzle) : Encode(start, 16, 8 * width, swizzle);
}

// An MN-major operand of 16-bit elements ([k][mn]) as a TMA load of boxes `width` bytes wide lays it out.
uint64_t PlaceColumns(std::vector<uint8_t>& shared, uint32_t start, Swizzle swizzle, int mn,
                      const uint16_t* v) {
  const uint32_t width =
      swizzle == Swizzle::kNone ? 16 : (swizzle == Swizzle::k32 ? 32 : (swizzle == Swizzle::k64 ? 64 : 128));
  const int per_box = static_cast<int>(width) / 2;
  for (int k = 0; k < 16; ++k) {
    for (int i = 0; i < mn; ++i) {
      const uint32_t box = start + static_cast<uint32_t>(i / per_box) * width * 16;
      uint32_t at = box + static_cast<uint32_t>(k) * width + static_cast<uint32_t>(i % per_box) * 2;
      const uint32_t mask = width / 16 - 1;
      at ^= (at / 128 & mask) * 16;
      std::memcpy(&shared[at], &v[k * mn + i], 2);
    }
  }
  // Without a swizzle a box is one unit wide: units along MN by the stride, 8 rows of K by the leading
  // offset.
  return swizzle == Swizzle::kNone ? Encode(start, 128, 256, swizzle)
                                   : Encode(start, width * 16, width * 8, swizzle);
}

struct Registers {
  std::vector<std::array<uint32_t, 32>> store;
  WgmmaOperands operands;
  Registers(int accumulators) : store(4 * (128 + 4)) {
    for (int w = 0; w < 4; ++w) {
      for (int r = 0; r < accumulators; ++r) operands.d[w][r] = store[w * 132 + r].data();
      for (int r = 0; r < 4; ++r) operands.a[w][r] = store[w * 132 + 128 + r].data();
    }
  }
};

class WgmmaSwizzleTest : public testing::TestWithParam<std::tuple<Swizzle, bool, bool, bool>> {};

TEST_P(WgmmaSwizzleTest, MultipliesWhatTheDescriptorsPointAt) {
  const auto [swizzle, a_registers, want_trans_a, trans_b] = GetParam();
  const bool trans_a = want_trans_a && !a_registers;  // PTX has no transposed A in registers
  std::mt19937 random(5);
  const int n = 128;
  WgmmaShape shape{.n = n, .a_in_registers = a_registers, .transpose_a = trans_a, .transpose_b = trans_b};
  ASSERT_TRUE(IsValidWgmma(shape));
  int a[64][16], b[16][n], c[64][n];
  for (auto& row : a)
    for (int& v : row) v = static_cast<int>(random() % 9) - 4;
  for (auto& row : b)
    for (int& v : row) v = static_cast<int>(random() % 9) - 4;
  for (auto& row : c)
    for (int& v : row) v = static_cast<int>(random() % 100);
  const auto half = [](int v) {
    return static_cast<uint16_t>(
        Convert({.to = Type::kF16, .from = Type::kS32}, static_cast<uint64_t>(static_cast<uint32_t>(v))));
  };
  std::vector<uint8_t> shared(48 * 1024, 0xee);
  std::vector<uint16_t> a_rows, a_columns, b_rows, b_columns;
  for (int i = 0; i < 64; ++i)
    for (int k = 0; k < 16; ++k) a_rows.push_back(half(a[i][k]));
  for (int k = 0; k < 16; ++k)
    for (int i = 0; i < 64; ++i) a_columns.push_back(half(a[i][k]));
  for (int j = 0; j < n; ++j)
    for (int k = 0; k < 16; ++k) b_rows.push_back(half(b[k][j]));
  for (int k = 0; k < 16; ++k)
    for (int j = 0; j < n; ++j) b_columns.push_back(half(b[k][j]));
  Registers regs(n / 2);
  regs.operands.a_descriptor =
      trans_a ? PlaceColumns(shared, 1024, swizzle, 64, a_columns.data())
              : PlaceRows(shared, 1024, swizzle, 64, reinterpret_cast<const uint8_t*>(a_rows.data()));
  regs.operands.b_descriptor =
      trans_b ? PlaceColumns(shared, 20480, swizzle, n, b_columns.data())
              : PlaceRows(shared, 20480, swizzle, n, reinterpret_cast<const uint8_t*>(b_rows.data()));
  for (int i = 0; i < 64; ++i) {
    for (int k = 0; k < 16; ++k) {
      const int lane = i % 8 * 4 + k % 8 / 2, r = i / 8 % 2 + k / 8 * 2;
      uint32_t& word = regs.store[i / 16 * 132 + 128 + r][lane];
      word |= static_cast<uint32_t>(half(a[i][k])) << (16 * (k % 2));
    }
  }
  const auto at = [&](int i, int j) -> uint32_t& {
    return *(regs.operands.d[i / 16][j / 8 * 4 + i / 8 % 2 * 2 + j % 2] + i % 8 * 4 + j % 8 / 2);
  };
  for (int i = 0; i < 64; ++i) {
    for (int j = 0; j < n; ++j) at(i, j) = std::bit_cast<uint32_t>(static_cast<float>(c[i][j]));
  }
  ASSERT_EQ(Wgmma(shape, regs.operands, shared), absl::nullopt);
  for (int i = 0; i < 64; ++i) {
    for (int j = 0; j < n; ++j) {
      int want = c[i][j];
      for (int k = 0; k < 16; ++k) want += a[i][k] * b[k][j];
      ASSERT_EQ(std::bit_cast<float>(at(i, j)), static_cast<float>(want)) << i << "," << j;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, WgmmaSwizzleTest,
                         testing::Combine(testing::Values(Swizzle::kNone, Swizzle::k32, Swizzle::k64,
                                                          Swizzle::k128),
                                          testing::Bool(), testing::Bool(), testing::Bool()));

TEST(WgmmaTest, ReportsAnAddressOutsideOfSharedMemoryAndWritesNothing) {
  Registers regs(4);
  regs.operands.scale_d = false;
  std::vector<uint8_t> shared(2048, 0);
  regs.operands.a_descriptor = Encode(1024, 16, 1024, Swizzle::k128);
  regs.operands.b_descriptor = Encode(0, 16, 1024, Swizzle::k128);
  for (auto& r : regs.store) r.fill(7);
  EXPECT_EQ(Wgmma({.n = 8}, regs.operands, shared), absl::optional<uint32_t>(2048u));
  EXPECT_EQ(regs.store[0][0], 7u);
}

TEST(WgmmaTest, SignedBytesAccumulateExactly) {
  Registers regs(8);
  std::vector<uint8_t> shared(8192), a(64 * 32), b(16 * 32);
  std::mt19937 random(1);
  for (auto& v : a) v = static_cast<uint8_t>(random());
  for (auto& v : b) v = static_cast<uint8_t>(random());
  regs.operands.a_descriptor = PlaceRows(shared, 0, Swizzle::k32, 64, a.data());
  regs.operands.b_descriptor = PlaceRows(shared, 4096, Swizzle::k32, 16, b.data());
  for (auto& r : regs.store) r.fill(0);
  ASSERT_EQ(Wgmma({.n = 16, .a = Type::kS8, .b = Type::kU8, .d = Type::kS32}, regs.operands, shared),
            absl::nullopt);
  for (int i = 0; i < 64; ++i) {
    for (int j = 0; j < 16; ++j) {
      int want = 0;
      for (int k = 0; k < 32; ++k) want += static_cast<int8_t>(a[i * 32 + k]) * b[j * 32 + k];
      ASSERT_EQ(
          static_cast<int>(regs.operands.d[i / 16][j / 8 * 4 + i / 8 % 2 * 2 + j % 2][i % 8 * 4 + j % 8 / 2]),
          want);
    }
  }
}

TEST(MatrixTest, StoreUndoesLoadWithAndWithoutTranspose) {
  std::mt19937 random(2);
  std::vector<uint8_t> memory(512), again(512);
  for (auto& v : memory) v = static_cast<uint8_t>(random());
  const uint8_t* rows[32];
  uint8_t* out[32];
  for (int i = 0; i < 32; ++i) rows[i] = &memory[16 * i], out[i] = &again[16 * i];
  uint32_t registers[4][32];
  uint32_t* pointers[4] = {registers[0], registers[1], registers[2], registers[3]};
  for (bool transpose : {false, true}) {
    LoadMatrices(4, transpose, rows, pointers);
    const uint16_t* first = reinterpret_cast<const uint16_t*>(rows[8 + 4]);  // matrix 1, row 4
    EXPECT_EQ(transpose ? registers[1][4 * 3 + 2] & 0xffff : registers[1][4 * 4 + 1] >> 16, first[3]);
    StoreMatrices(4, transpose, pointers, out);
    EXPECT_EQ(memory, again);
  }
}

}  // namespace
}  // namespace trun::device::numerics
