#include "server/device/emulator/numerics/matrix.h"

#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace trun::device::numerics {

namespace {

// to[c][r] = from[r][c] of 8 x 8 elements of two bytes; rows of `to` lie one after the other.
void Transpose(const uint8_t* const* from, void* to) {
#if defined(__SSE2__)
  __m128i r[8], s[8];
  for (int i = 0; i < 8; ++i) r[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from[i]));
  for (int i = 0; i < 4; ++i) {
    s[2 * i] = _mm_unpacklo_epi16(r[i], r[i + 4]);
    s[2 * i + 1] = _mm_unpackhi_epi16(r[i], r[i + 4]);
  }
  for (int i = 0; i < 4; ++i) {
    r[2 * i] = _mm_unpacklo_epi16(s[i], s[i + 4]);
    r[2 * i + 1] = _mm_unpackhi_epi16(s[i], s[i + 4]);
  }
  __m128i* const out = static_cast<__m128i*>(to);
  for (int i = 0; i < 4; ++i) {
    _mm_storeu_si128(out + 2 * i, _mm_unpacklo_epi16(r[i], r[i + 4]));
    _mm_storeu_si128(out + 2 * i + 1, _mm_unpackhi_epi16(r[i], r[i + 4]));
  }
#else
  uint16_t tile[8][8], turned[8][8];
  for (int r = 0; r < 8; ++r) std::memcpy(tile[r], from[r], 16);
  for (int r = 0; r < 8; ++r) {
    for (int c = 0; c < 8; ++c) turned[c][r] = tile[r][c];
  }
  std::memcpy(to, turned, sizeof turned);
#endif
}

}  // namespace

// Without .trans, lane 4g + t holds bytes 4t … 4t+3 of row g: a register is the matrix itself, row by row.
// With it, lane 4g + t holds column g of rows 2t and 2t+1: the register is the matrix, column by column.
void LoadMatrices(int count, bool transpose, const uint8_t* const* rows, uint32_t* const* registers) {
  for (int m = 0; m < count; ++m) {
    if (transpose) {
      Transpose(rows + 8 * m, registers[m]);
      continue;
    }
    for (int r = 0; r < 8; ++r) std::memcpy(registers[m] + 4 * r, rows[8 * m + r], 16);
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
