#include "client/cli/npy.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/element.h"
#include "client/cli/file.h"
#include "common/base/status.h"

namespace trun::cli {
namespace {

constexpr absl::string_view kMagic("\x93NUMPY", 6);
constexpr size_t kMaxHeaderBytes = 64 << 10;
constexpr size_t kMaxDimensions = 32;
constexpr uint64_t kMaxFileBytes = uint64_t{64} << 30;

struct Descr {
  absl::string_view name;
  ScalarType dtype;
  size_t bytes;
};

constexpr Descr kDescrs[] = {
    {"|b1", ScalarType::kI1, 1},          {"|i1", ScalarType::kI8, 1},
    {"<i2", ScalarType::kI16, 2},         {"<i4", ScalarType::kI32, 4},
    {"<i8", ScalarType::kI64, 8},         {"|u1", ScalarType::kU8, 1},
    {"<u2", ScalarType::kU16, 2},         {"<u4", ScalarType::kU32, 4},
    {"<u8", ScalarType::kU64, 8},         {"<f2", ScalarType::kF16, 2},
    {"<f4", ScalarType::kF32, 4},         {"<f8", ScalarType::kF64, 8},
    {"|V1", ScalarType::kUnspecified, 1}, {"|V2", ScalarType::kUnspecified, 2},
    {"<V2", ScalarType::kUnspecified, 2}, {"<V1", ScalarType::kUnspecified, 1},
};

absl::Status Bad(absl::string_view what) {
  return InvalidArgument(Reason::kUnspecified, absl::StrCat("not a .npy file of numbers: ", what));
}

// Reads the header's Python dictionary, exactly as far as NumPy writes it.
class HeaderParser {
 public:
  explicit HeaderParser(absl::string_view text) : rest_(text) {}

  absl::Status Parse(std::string* descr, bool* fortran, std::vector<uint64_t>* shape) {
    bool seen[3] = {false, false, false};
    if (!Take('{')) return Bad("its header is not a dictionary");
    while (!Take('}')) {
      std::string key;
      if (!String(&key) || !Take(':')) return Bad("its header is not a dictionary of strings");
      const int which = key == "descr" ? 0 : key == "fortran_order" ? 1 : key == "shape" ? 2 : 3;
      if (which == 3 || seen[which])
        return Bad(absl::StrCat("its header has the key '", key, "' it should not have"));
      seen[which] = true;
      if (which == 0 && !String(descr)) return Bad("its elements are records, not numbers");
      if (which == 1 && !Boolean(fortran)) return Bad("fortran_order is neither True nor False");
      if (which == 2) TRUN_RETURN_IF_ERROR(Shape(shape));
      if (!Take(',') && !Peek('}')) return Bad("its header is not a dictionary");
    }
    SkipSpace();
    if (!rest_.empty()) return Bad("text follows its header's dictionary");
    if (!seen[0] || !seen[1] || !seen[2]) return Bad("its header lacks one of descr, fortran_order, shape");
    return absl::OkStatus();
  }

 private:
  void SkipSpace() {
    while (!rest_.empty() && (rest_[0] == ' ' || rest_[0] == '\n')) rest_.remove_prefix(1);
  }
  bool Peek(char c) {
    SkipSpace();
    return !rest_.empty() && rest_[0] == c;
  }
  bool Take(char c) {
    if (!Peek(c)) return false;
    rest_.remove_prefix(1);
    return true;
  }
  bool Word(absl::string_view word) {
    SkipSpace();
    if (rest_.substr(0, word.size()) != word) return false;
    rest_.remove_prefix(word.size());
    return true;
  }
  bool Boolean(bool* value) {
    *value = Word("True");
    return *value || Word("False");
  }
  bool String(std::string* value) {
    SkipSpace();
    if (rest_.empty() || (rest_[0] != '\'' && rest_[0] != '"')) return false;
    const size_t end = rest_.find(rest_[0], 1);
    if (end == absl::string_view::npos) return false;
    value->assign(rest_.data() + 1, end - 1);
    rest_.remove_prefix(end + 1);
    return true;
  }
  absl::Status Shape(std::vector<uint64_t>* shape) {
    if (!Take('(')) return Bad("its shape is not a tuple");
    while (!Take(')')) {
      SkipSpace();
      size_t digits = 0;
      while (digits < rest_.size() && rest_[digits] >= '0' && rest_[digits] <= '9') ++digits;
      uint64_t dimension = 0;
      if (digits == 0 || !absl::SimpleAtoi(rest_.substr(0, digits), &dimension))
        return Bad("its shape is not of numbers");
      if (shape->size() == kMaxDimensions) return Bad("it has more than 32 dimensions");
      shape->push_back(dimension);
      rest_.remove_prefix(digits);
      if (!Take(',') && !Peek(')')) return Bad("its shape is not a tuple");
    }
    return absl::OkStatus();
  }

  absl::string_view rest_;
};

// Fortran order to C order, element by element.
std::string ToRowMajor(absl::string_view data, size_t element_bytes, const std::vector<uint64_t>& shape) {
  std::string out(data.size(), '\0');
  std::vector<uint64_t> at(shape.size(), 0);
  std::vector<uint64_t> strides(shape.size(), 1);
  for (size_t i = 1; i < shape.size(); ++i) strides[i] = strides[i - 1] * shape[i - 1];
  for (size_t i = 0; i < data.size() / element_bytes; ++i) {
    uint64_t from = 0;
    for (size_t d = 0; d < shape.size(); ++d) from += at[d] * strides[d];
    std::memcpy(&out[i * element_bytes], data.data() + from * element_bytes, element_bytes);
    for (size_t d = shape.size(); d-- > 0 && ++at[d] == shape[d];) at[d] = 0;
  }
  return out;
}

}  // namespace

absl::StatusOr<NpyArray> ParseNpy(absl::string_view file) {
  if (file.size() < 10 || file.substr(0, kMagic.size()) != kMagic) return Bad("it does not begin as one");
  const int version = static_cast<unsigned char>(file[6]);
  if (version < 1 || version > 3) return Bad(absl::StrCat("its format version ", version, " is unknown"));
  const size_t length_bytes = version == 1 ? 2 : 4;
  if (file.size() < 8 + length_bytes) return Bad("it is cut short");
  size_t header_bytes = 0;
  for (size_t i = 0; i < length_bytes; ++i) {
    header_bytes |= static_cast<size_t>(static_cast<unsigned char>(file[8 + i])) << (8 * i);
  }
  const size_t start = 8 + length_bytes;
  if (header_bytes > kMaxHeaderBytes || header_bytes > file.size() - start)
    return Bad("its header is cut short");

  std::string descr;
  bool fortran = false;
  NpyArray array;
  TRUN_RETURN_IF_ERROR(HeaderParser(file.substr(start, header_bytes)).Parse(&descr, &fortran, &array.shape));
  for (const Descr& known : kDescrs) {
    if (known.name != descr) continue;
    array.dtype = known.dtype;
    array.element_bytes = known.bytes;
  }
  if (array.element_bytes == 0) {
    return Bad(absl::StrCat("its element type '", descr,
                            "' is none of bool, int, uint, float16, float32, float64 ",
                            "(little-endian), or a raw type of 1 or 2 bytes; convert it with astype()"));
  }
  TRUN_ASSIGN_OR_RETURN(const uint64_t count, ElementCount(array.shape));
  const absl::string_view data = file.substr(start + header_bytes);
  if (data.size() != count * array.element_bytes) {
    return Bad(absl::StrCat("its shape (", absl::StrJoin(array.shape, ", "), ") of '", descr, "' needs ",
                            count * array.element_bytes, " bytes, and ", data.size(), " follow the header"));
  }
  array.data = fortran && array.shape.size() > 1 ? ToRowMajor(data, array.element_bytes, array.shape)
                                                 : std::string(data);
  return array;
}

std::string FormatNpy(ScalarType dtype, const std::vector<uint64_t>& shape, absl::string_view data) {
  std::string descr = ScalarTypeBytes(dtype) == 1 ? "|V1" : "<V2";
  for (const Descr& known : kDescrs) {
    if (known.dtype == dtype && dtype != ScalarType::kUnspecified) descr = std::string(known.name);
  }
  std::string header = absl::StrCat("{'descr': '", descr, "', 'fortran_order': False, 'shape': (",
                                    absl::StrJoin(shape, ", "), shape.size() == 1 ? ",), }" : "), }");
  // The data begins at a multiple of 64; the header ends with a newline.
  const size_t before = kMagic.size() + 2 + 2;
  header.append(63 - (before + header.size()) % 64, ' ');
  header.push_back('\n');
  std::string file(kMagic);
  file.push_back('\x01');
  file.push_back('\0');
  file.push_back(static_cast<char>(header.size() & 0xff));
  file.push_back(static_cast<char>(header.size() >> 8));
  file += header;
  file.append(data.data(), data.size());
  return file;
}

absl::StatusOr<NpyArray> ReadNpy(const std::string& path) {
  TRUN_ASSIGN_OR_RETURN(const std::string file, ReadFile(path, kMaxFileBytes));
  absl::StatusOr<NpyArray> array = ParseNpy(file);
  if (!array.ok()) return Annotate(array.status(), absl::StrCat("'", path, "'"));
  return array;
}

absl::Status WriteNpy(const std::string& path, ScalarType dtype, const std::vector<uint64_t>& shape,
                      absl::string_view data) {
  return WriteFile(path, FormatNpy(dtype, shape, data));
}

}  // namespace trun::cli
