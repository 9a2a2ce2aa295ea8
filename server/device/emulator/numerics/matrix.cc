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

void ExpandRow(int bits, const uint8_t* row, uint8_t* bytes) {
  for (int i = 0; i < 16; ++i) {
    const int at = i * bits;
    const unsigned pair = row[at / 8] | static_cast<unsigned>(at / 8 + 1 < 16 ? row[at / 8 + 1] : 0) << 8;
    const unsigned code = pair >> (at % 8) & ((1u << bits) - 1);
    bytes[i] = static_cast<uint8_t>(bits == 4 ? code << 2 : code);
  }
}

// Lane 4g + t holds rows 2t and 2t + 1 of column g, then of column g + 8: what it has of an accumulator.
void StoreByteMatrices(int count, const uint32_t* const* registers, uint8_t* const* rows) {
  for (int m = 0; m < count; ++m) {
    for (int lane = 0; lane < 32; ++lane) {
      for (int e = 0; e < 4; ++e) {
        rows[8 * m + 2 * (lane % 4) + e % 2][lane / 4 + 8 * (e / 2)] =
            static_cast<uint8_t>(registers[m][lane] >> (8 * e));
      }
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
