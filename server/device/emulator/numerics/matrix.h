// ldmatrix and stmatrix between rows in shared memory and warp fragments (PTX ISA, "Warp-level matrix load
// instruction: ldmatrix", "stmatrix").
//
// Pure functions, thread-safe. The caller resolves and checks addresses: `rows[8 · m + r]` is row r of matrix
// m, the address given by lane 8 · m + r, 16 bytes. `count` is 1, 2 or 4 matrices of 8 x 8 b16 elements;
// register m is 32 lanes.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_NUMERICS_MATRIX_H_
#define TRUN_SERVER_DEVICE_EMULATOR_NUMERICS_MATRIX_H_

#include <cstdint>

namespace trun::device::numerics {

void LoadMatrices(int count, bool transpose, const uint8_t* const* rows, uint32_t* const* registers);
// m16n16 of bytes, transposed: 16 rows and two registers a matrix; `count` is the registers.
void LoadByteMatrices(int count, const uint8_t* const* rows, uint32_t* const* registers);
// Rows of 16 elements of 6 or 4 bits, packed at their start (.b6x16_p32, .b4x16_p64), to bytes: 6 bits in the
// lower ones, 4 bits in the middle, as mma takes them.
void ExpandRow(int bits, const uint8_t* row, uint8_t* bytes);
// m16n8 of bytes, transposed: 8 rows of 16 bytes and a register a matrix.
void StoreByteMatrices(int count, const uint32_t* const* registers, uint8_t* const* rows);
void StoreMatrices(int count, bool transpose, const uint32_t* const* registers, uint8_t* const* rows);

}  // namespace trun::device::numerics

#endif  // TRUN_SERVER_DEVICE_EMULATOR_NUMERICS_MATRIX_H_
