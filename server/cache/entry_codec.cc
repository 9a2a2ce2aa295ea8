#include "server/cache/entry_codec.h"

#include <cstdint>
#include <limits>
#include <optional>
#include <utility>

#include "common/base/status.h"
#include "common/ir/pass_record_level.h"

namespace trun {
namespace {

constexpr uint8_t kRecordVersion = 1;

class FieldWriter {
 public:
  void U8(uint8_t value) { out_.push_back(static_cast<char>(value)); }
  void U32(uint32_t value) { Integer(value, 4); }
  void U64(uint64_t value) { Integer(value, 8); }
  void Text(absl::string_view text) {
    U32(static_cast<uint32_t>(text.size()));
    out_.append(text.data(), text.size());
  }
  void Raw(absl::string_view bytes) { out_.append(bytes.data(), bytes.size()); }
  void Time(absl::Time time) {
    U64(time == absl::InfiniteFuture() ? static_cast<uint64_t>(std::numeric_limits<int64_t>::max())
                                       : static_cast<uint64_t>(absl::ToUnixMicros(time)));
  }
  const std::string& bytes() const { return out_; }

 private:
  void Integer(uint64_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) U8(static_cast<uint8_t>(value >> (8 * i)));
  }
  std::string out_;
};

// Every read past the end, and every value out of its range, turns `ok` off and yields zero.
class FieldReader {
 public:
  explicit FieldReader(absl::string_view data) : data_(data) {}

  uint8_t U8() { return static_cast<uint8_t>(Integer(1)); }
  uint32_t U32() { return static_cast<uint32_t>(Integer(4)); }
  uint64_t U64() { return Integer(8); }
  absl::string_view Raw(size_t bytes) {
    if (bytes > data_.size()) {
      ok_ = false;
      data_ = {};
      return {};
    }
    const absl::string_view field = data_.substr(0, bytes);
    data_.remove_prefix(bytes);
    return field;
  }
  std::string Text() { return std::string(Raw(U32())); }
  absl::Time Time() {
    const int64_t micros = static_cast<int64_t>(U64());
    return micros == std::numeric_limits<int64_t>::max() ? absl::InfiniteFuture()
                                                         : absl::FromUnixMicros(micros);
  }
  Level ReadLevel() {
    const uint8_t number = U8();
    if (number > static_cast<uint8_t>(kPassRecordLevel)) ok_ = false;
    return ok_ ? static_cast<Level>(number) : Level::kUnspecified;
  }
  Digest ReadDigest() {
    const absl::StatusOr<Digest> digest = Digest::FromBytes(Raw(Digest::kBytes));
    if (!digest.ok()) ok_ = false;
    return ok_ ? *digest : Digest();
  }
  bool ok() const { return ok_; }
  bool finished() const { return ok_ && data_.empty(); }

 private:
  uint64_t Integer(int bytes) {
    const absl::string_view field = Raw(bytes);
    uint64_t value = 0;
    for (size_t i = 0; i < field.size(); ++i) value |= uint64_t{static_cast<uint8_t>(field[i])} << (8 * i);
    return value;
  }
  absl::string_view data_;
  bool ok_ = true;
};

}  // namespace

std::string EncodeEntryRecord(const EntryRecord& record) {
  FieldWriter out;
  out.U8(kRecordVersion);
  out.Text(record.entry.kernel_name);
  out.Text(record.entry.toolchain);
  out.Text(record.entry.target);
  out.U8(static_cast<uint8_t>(record.entry.source_level));
  out.Text(record.entry.tenant);
  out.Text(record.entry.metadata_json);
  out.Text(record.entry.log);
  out.Time(record.created);
  out.Time(record.expires);
  out.U8(record.entry.error.has_value() ? 1 : 0);
  if (record.entry.error.has_value()) {
    out.U32(static_cast<uint32_t>(record.entry.error->code));
    out.Text(record.entry.error->reason);
    out.Text(record.entry.error->message);
    out.U32(static_cast<uint32_t>(record.entry.error->details.size()));
    for (const auto& [name, value] : record.entry.error->details) {
      out.Text(name);
      out.Text(value);
    }
  }
  out.U32(static_cast<uint32_t>(record.blobs.size()));
  for (const CacheBlobInfo& blob : record.blobs) {
    out.U8(static_cast<uint8_t>(blob.level));
    out.U64(blob.bytes);
    out.Raw(blob.digest.bytes());
  }
  const Digest digest = Digest::Of(out.bytes());
  std::string data(digest.bytes());
  data.append(out.bytes());
  return data;
}

absl::StatusOr<EntryRecord> DecodeEntryRecord(absl::string_view data) {
  if (data.size() < Digest::kBytes) return DataLoss(Reason::kCorrupt, "a cache record is cut short");
  const absl::string_view fields = data.substr(Digest::kBytes);
  if (Digest::Of(fields).bytes() != data.substr(0, Digest::kBytes)) {
    return DataLoss(Reason::kCorrupt, "a cache record does not match its checksum");
  }
  FieldReader in(fields);
  if (in.U8() != kRecordVersion) return DataLoss(Reason::kCorrupt, "a cache record is of an unknown version");
  EntryRecord record;
  record.entry.kernel_name = in.Text();
  record.entry.toolchain = in.Text();
  record.entry.target = in.Text();
  record.entry.source_level = in.ReadLevel();
  record.entry.tenant = in.Text();
  record.entry.metadata_json = in.Text();
  record.entry.log = in.Text();
  record.created = in.Time();
  record.expires = in.Time();
  if (in.U8() != 0) {
    CachedError error;
    error.code = static_cast<int>(in.U32());
    error.reason = in.Text();
    error.message = in.Text();
    for (uint32_t left = in.U32(); left > 0 && in.ok(); --left) {
      std::string name = in.Text();
      error.details[std::move(name)] = in.Text();
    }
    record.entry.error = std::move(error);
  }
  Level last = Level::kUnspecified;
  for (uint32_t left = in.U32(); left > 0 && in.ok(); --left) {
    CacheBlobInfo blob;
    blob.level = in.ReadLevel();
    blob.bytes = in.U64();
    blob.digest = in.ReadDigest();
    if (blob.level <= last) return DataLoss(Reason::kCorrupt, "a cache record's blobs are out of order");
    last = blob.level;
    record.blobs.push_back(blob);
  }
  if (!in.finished()) return DataLoss(Reason::kCorrupt, "a cache record's fields do not end where it does");
  return record;
}

EntryRecord MakeEntryRecord(const CacheEntry& entry, absl::Time created, absl::Time expires) {
  EntryRecord record;
  record.entry.kernel_name = entry.kernel_name;
  record.entry.toolchain = entry.toolchain;
  record.entry.target = entry.target;
  record.entry.source_level = entry.source_level;
  record.entry.tenant = entry.tenant;
  record.entry.metadata_json = entry.metadata_json;
  record.entry.log = entry.log;
  record.entry.error = entry.error;
  record.created = absl::FromUnixMicros(absl::ToUnixMicros(created));
  record.expires = expires;
  for (const auto& [level, bytes] : entry.artifacts) {
    record.blobs.push_back(CacheBlobInfo{level, bytes.size(), Digest::Of(bytes)});
  }
  return record;
}

CacheEntryInfo DescribeEntry(const CacheKey& key, const EntryRecord& record) {
  CacheEntryInfo info;
  info.key = key;
  info.kernel_name = record.entry.kernel_name;
  info.toolchain = record.entry.toolchain;
  info.target = record.entry.target;
  info.source_level = record.entry.source_level;
  info.tenant = record.entry.tenant;
  info.blobs = record.blobs;
  info.created = record.created;
  info.last_used = record.created;
  if (record.entry.error.has_value()) info.error = record.entry.error->message;
  return info;
}

}  // namespace trun
