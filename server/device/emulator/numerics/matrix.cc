#include "server/device/emulator/numerics/matrix.h"

#include <cstring>

namespace trun::device::numerics {

// Without .trans, lane 4g + t holds bytes 4t … 4t+3 of row g: a register is the matrix itself, row by row.
// With it, lane 4g + t holds column g of rows 2t and 2t+1.
void LoadMatrices(int count, bool transpose, const uint8_t* const* rows, uint32_t* const* registers) {
  for (int m = 0; m < count; ++m) {
    uint16_t tile[8][8];
    for (int r = 0; r < 8; ++r) std::memcpy(tile[r], rows[8 * m + r], 16);
    if (!transpose) {
      std::memcpy(registers[m], tile, sizeof tile);
      continue;
    }
    for (int g = 0; g < 8; ++g) {
      for (int t = 0; t < 4; ++t) {
        registers[m][4 * g + t] = tile[2 * t][g] | static_cast<uint32_t>(tile[2 * t + 1][g]) << 16;
      }
    }
  }
}

void LoadByteMatrices(int count, const uint8_t* const* rows, uint32_t* const* registers) {
  for (int r = 0; r < count; ++r) {
    const uint8_t* const* matrix = rows + 16 * (r / 2);
    for (int lane = 0; lane < 32; ++lane) {
      const int column = lane / 4 + 8 * (r % 2);
      uint32_t word = 0;
      for (int e = 0; e < 4; ++e)
        word |= static_cast<uint32_t>(matrix[4 * (lane % 4) + e][column]) << (8 * e);
      registers[r][lane] = word;
    }
  }
}

void StoreMatrices(int count, bool transpose, const uint32_t* const* registers, uint8_t* const* rows) {
  for (int m = 0; m < count; ++m) {
    uint16_t tile[8][8];
    if (transpose) {
      for (int g = 0; g < 8; ++g) {
        for (int t = 0; t < 4; ++t) {
          const uint32_t pair = registers[m][4 * g + t];
          tile[2 * t][g] = static_cast<uint16_t>(pair);
          tile[2 * t + 1][g] = static_cast<uint16_t>(pair >> 16);
        }
      }
    } else {
      std::memcpy(tile, registers[m], sizeof tile);
    }
    for (int r = 0; r < 8; ++r) std::memcpy(rows[8 * m + r], tile[r], 16);
  }
}

}  // namespace trun::device::numerics
