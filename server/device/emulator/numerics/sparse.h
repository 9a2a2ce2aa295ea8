// Where the elements of a sparse A belong: the metadata of mma.sp and wgmma.sp (PTX ISA, "Sparse matrix
// storage").
#ifndef TRUN_SERVER_DEVICE_EMULATOR_NUMERICS_SPARSE_H_
#define TRUN_SERVER_DEVICE_EMULATOR_NUMERICS_SPARSE_H_

#include <cstdint>

namespace trun::device::numerics {

// A of 16 rows whose elements have `bits` bits, in chunks of K: two elements of which one is there (32 bits),
// four of which two are (16 and 8 bits), four pairs of which two are (4 bits).
struct SparseLayout {
  int bits = 16;
  int k = 32;  // with the zeros
  int selector = 0;

  int chunks() const { return bits == 32 ? k / 2 : k / (bits == 4 ? 8 : 4); }
  // The largest selector: how many parts of the lanes could hold all of it, less one.
  int max_selector() const { return chunks() == 4 ? 3 : chunks() == 8 ? 1 : 0; }
};

// Four bits for chunk `j` of the row; `lanes` is the register with the metadata.
inline uint32_t SparseMetadata(const SparseLayout& layout, const uint32_t* lanes, int row, int j) {
  const int group = row % 8 * 4, selector = layout.selector, chunks = layout.chunks();
  if (chunks == 4) return lanes[group + selector] >> (16 * (row / 8) + 4 * j) & 15;
  if (chunks == 16) return lanes[group + 2 * (j / 8) + row / 8] >> (4 * (j % 8)) & 15;
  if (layout.bits >= 16) return lanes[group + 2 * selector + j / 4] >> (16 * (row / 8) + 4 * (j % 4)) & 15;
  return lanes[group + 2 * selector + row / 8] >> (4 * j) & 15;
}

// Calls visit(k, e) for the elements of the row that are there, in order of K: element e of those kept is
// element k of the whole row.
template <typename Visit>
void ForEachSparseElement(const SparseLayout& layout, const uint32_t* lanes, int row, Visit visit) {
  const int chunks = layout.chunks();
  if (layout.bits == 32) {
    for (int j = 0; j < chunks; ++j) {
      visit(2 * j + static_cast<int>((SparseMetadata(layout, lanes, row, j) & 3) >> 1), j);
    }
    return;
  }
  const int unit = layout.bits == 4 ? 2 : 1;
  for (int j = 0; j < chunks; ++j) {
    const uint32_t where = SparseMetadata(layout, lanes, row, j);
    for (int half = 0; half < 2; ++half) {
      const int at = static_cast<int>(where >> (2 * half) & 3);
      for (int u = 0; u < unit; ++u) visit(4 * unit * j + unit * at + u, unit * (2 * j + half) + u);
    }
  }
}

}  // namespace trun::device::numerics

#endif  // TRUN_SERVER_DEVICE_EMULATOR_NUMERICS_SPARSE_H_
