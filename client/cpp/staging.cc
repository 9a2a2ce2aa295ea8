#include "client/cpp/staging.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cpp/connection.h"
#include "client/cpp/host_copy.h"
#include "common/rpc/descriptor_socket.h"

namespace trun {
inline namespace client {
namespace {

constexpr int kMostThreads = 8;
constexpr uint64_t kPieceBytes = uint64_t{4} << 20;
constexpr uint64_t kPiecesOfAThread = 2;

absl::Status NotHere(absl::string_view why) {
  return FailedPrecondition(Reason::kUnsupportedTarget,
                            absl::StrCat("no memory can be shared with the session's device: ", why));
}

HostCopyOptions WithDefaults(HostCopyOptions options) {
  const int cores = static_cast<int>(std::max(std::thread::hardware_concurrency(), 1u));
  if (options.threads <= 0) options.threads = std::clamp(cores / 2, 1, kMostThreads);
  if (options.piece_bytes == 0) options.piece_bytes = kPieceBytes;
  options.threads = std::min(options.threads, 64);
  options.piece_bytes = std::clamp<uint64_t>(options.piece_bytes, 64 << 10, 64 << 20);
  return options;
}

// A piece of the session's own area, and the transfer that has it.
class Slot {
 public:
  Slot(v1::StagingService::Stub* stub, char* memory) : stub_(stub), memory_(memory) {}
  ~Slot() { Wait().IgnoreError(); }  // the call's memory is here
  Slot(const Slot&) = delete;
  Slot& operator=(const Slot&) = delete;

  char* memory() const { return memory_; }
  void Begin(const v1::TransferRequest& request) {
    {
      MutexLock lock(&mu_);
      busy_ = true;
    }
    request_ = request;
    context_ = std::make_unique<grpc::ClientContext>();
    stub_->async()->Transfer(context_.get(), &request_, &response_, [this](const grpc::Status& status) {
      MutexLock lock(&mu_);
      if (status_.ok()) status_ = FromGrpcStatus(status);
      busy_ = false;
      changed_.SignalAll();
    });
  }
  absl::Status Wait() {
    MutexLock lock(&mu_);
    while (busy_) changed_.Wait(&mu_);
    return status_;
  }

 private:
  v1::StagingService::Stub* const stub_;
  char* const memory_;
  v1::TransferRequest request_;
  v1::TransferResponse response_;
  std::unique_ptr<grpc::ClientContext> context_;
  Mutex mu_;
  CondVar changed_;
  bool busy_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mu_);
};

}  // namespace

StagingArea::~StagingArea() {
  if (data_ != nullptr) munmap(data_, bytes_);
  if (!owner_->open) return;
  v1::FreeStagingRequest request;
  request.set_session(owner_->session);
  request.set_staging(handle_);
  // An area that cannot be given back goes with its session.
  Call(*owner_->stub, &v1::StagingService::Stub::FreeStaging, request).status().IgnoreError();
}

SessionStaging::SessionStaging(const std::shared_ptr<Connection>& connection, std::string session,
                               std::string descriptor_socket, const HostCopyOptions& options)
    : owner_(std::make_shared<StagingArea::Owner>()),
      descriptor_socket_(std::move(descriptor_socket)),
      options_(WithDefaults(options)) {
  owner_->stub = v1::StagingService::NewStub(connection->channel);
  owner_->session = std::move(session);
}

absl::StatusOr<std::shared_ptr<StagingArea>> SessionStaging::Create(uint64_t bytes,
                                                                    std::string* unregistered) {
  if (descriptor_socket_.empty()) return NotHere("the daemon names no descriptor socket");
  v1::CreateStagingRequest request;
  request.set_session(owner_->session);
  request.set_bytes(bytes);
  TRUN_ASSIGN_OR_RETURN(const v1::CreateStagingResponse response,
                        Call(*owner_->stub, &v1::StagingService::Stub::CreateStaging, request));
  auto area = std::make_shared<StagingArea>(owner_, response.staging());
  absl::StatusOr<std::vector<UniqueFd>> descriptors =
      ReceiveDescriptors(descriptor_socket_, response.token());
  // A daemon that another machine or user stands behind answers calls and gives no descriptors.
  if (!descriptors.ok()) return NotHere(descriptors.status().message());
  struct stat info;
  if (descriptors->size() != 1 || fstat((*descriptors)[0].get(), &info) != 0 ||
      static_cast<uint64_t>(info.st_size) < bytes) {
    return MakeError(absl::StatusCode::kInternal, Reason::kProtocol,
                     "the daemon's staging area does not fit what it said of it");
  }
  // Without this seal the other side could shrink the file, and a touch here would end this process.
  const int seals = fcntl((*descriptors)[0].get(), F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
    return NotHere("the staging area is not sealed against shrinking");
  }
  const auto size = static_cast<uint64_t>(info.st_size);
  void* const mapped =
      mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, (*descriptors)[0].get(), 0);
  if (mapped == MAP_FAILED) return FromErrno(errno, "cannot map a staging area", Reason::kOutOfMemory);
  area->data_ = static_cast<char*>(mapped);
  area->bytes_ = size;
  *unregistered = response.unregistered_reason();
  MutexLock lock(&mu_);
  std::erase_if(pinned_, [](const auto& entry) { return entry.second.expired(); });
  pinned_[area->data()] = area;
  return area;
}

std::shared_ptr<StagingArea> SessionStaging::FindPinned(const char* data, uint64_t bytes) {
  MutexLock lock(&mu_);
  auto it = pinned_.upper_bound(data);
  if (it == pinned_.begin()) return nullptr;
  const std::shared_ptr<StagingArea> area = std::prev(it)->second.lock();
  if (area == nullptr || data + bytes > area->data() + area->bytes()) return nullptr;
  return area;
}

bool SessionStaging::Takes(const char* data, uint64_t bytes) {
  if (FindPinned(data, bytes) != nullptr) return true;
  if (refused_.load(std::memory_order_relaxed)) return false;
  return bytes >= (has_own_.load(std::memory_order_relaxed) ? kLeastBytes : kLeastFirstBytes);
}

absl::Status SessionStaging::Write(const std::string& tensor, absl::string_view data, uint64_t offset) {
  // Only read from: what the direction says.
  return Move(tensor, const_cast<char*>(data.data()), data.size(), offset, v1::TRANSFER_DIRECTION_TO_TENSOR);
}

absl::Status SessionStaging::Read(const std::string& tensor, absl::Span<char> out, uint64_t offset) {
  return Move(tensor, out.data(), out.size(), offset, v1::TRANSFER_DIRECTION_FROM_TENSOR);
}

absl::Status SessionStaging::EnsureOwn() {
  if (own_ != nullptr) return absl::OkStatus();
  std::string unregistered;
  const uint64_t pieces = static_cast<uint64_t>(options_.threads) * kPiecesOfAThread;
  absl::StatusOr<std::shared_ptr<StagingArea>> made = Create(pieces * options_.piece_bytes, &unregistered);
  if (made.ok()) {
    own_ = *std::move(made);
    has_own_ = true;
    return absl::OkStatus();
  }
  // Where the quota or the host's memory has no room for it, bytes still travel on a stream.
  if (!absl::IsFailedPrecondition(made.status()) && !absl::IsResourceExhausted(made.status())) {
    return made.status();
  }
  refused_ = true;
  return NotHere(made.status().message());
}

// A copy through the session's own area, shared out among threads.
struct SessionStaging::Copy {
  v1::StagingService::Stub* stub;
  const StagingArea* area;
  v1::TransferRequest request;  // all but the range
  char* data;
  uint64_t bytes;
  uint64_t offset;
  uint64_t piece_bytes;
  std::atomic<uint64_t> next{0};
  std::atomic<bool> failed{false};

  uint64_t begin(uint64_t piece) const { return piece * piece_bytes; }
  uint64_t size(uint64_t piece) const { return std::min(piece_bytes, bytes - begin(piece)); }
  // The next piece; false after the last.
  bool Take(uint64_t* piece) {
    *piece = next.fetch_add(1);
    return !failed && begin(*piece) < bytes;
  }
  void Begin(Slot& slot, uint64_t piece) const {
    v1::TransferRequest transfer = request;
    transfer.mutable_ranges(0)->set_staging_offset(static_cast<uint64_t>(slot.memory() - area->data()));
    transfer.mutable_ranges(0)->set_tensor_offset(offset + begin(piece));
    transfer.mutable_ranges(0)->set_bytes(size(piece));
    slot.Begin(transfer);
  }
  absl::Status Note(absl::Status status) {
    if (!status.ok()) failed = true;
    return status;
  }

  // What one thread does, with two slots of its own: while the device has one, it copies into the other.
  absl::Status Write(Slot (&slots)[kPiecesOfAThread]) {
    uint64_t piece = 0;
    for (uint64_t turn = 0; Take(&piece); ++turn) {
      Slot& slot = slots[turn % kPiecesOfAThread];
      TRUN_RETURN_IF_ERROR(Note(slot.Wait()));
      // Into the caches, from which the GPU reads faster than from memory.
      std::memcpy(slot.memory(), data + begin(piece), size(piece));
      Begin(slot, piece);
    }
    absl::Status status;
    for (Slot& slot : slots) status.Update(slot.Wait());
    return Note(std::move(status));
  }
  absl::Status Read(Slot (&slots)[kPiecesOfAThread]) {
    uint64_t pieces[kPiecesOfAThread];
    bool has[kPiecesOfAThread];
    for (uint64_t i = 0; i < kPiecesOfAThread; ++i) {
      has[i] = Take(&pieces[i]);
      if (has[i]) Begin(slots[i], pieces[i]);
    }
    for (uint64_t turn = 0; has[turn % kPiecesOfAThread]; ++turn) {
      const uint64_t i = turn % kPiecesOfAThread;
      TRUN_RETURN_IF_ERROR(Note(slots[i].Wait()));
      CopyPastCaches(data + begin(pieces[i]), slots[i].memory(), size(pieces[i]));
      has[i] = Take(&pieces[i]);
      if (has[i]) Begin(slots[i], pieces[i]);
    }
    return absl::OkStatus();
  }
  absl::Status Run(int thread) {
    char* const memory = area->data() + static_cast<uint64_t>(thread) * kPiecesOfAThread * piece_bytes;
    Slot slots[kPiecesOfAThread] = {{stub, memory}, {stub, memory + piece_bytes}};
    return request.direction() == v1::TRANSFER_DIRECTION_TO_TENSOR ? Write(slots) : Read(slots);
  }
};

absl::Status SessionStaging::Move(const std::string& tensor, char* data, uint64_t bytes, uint64_t offset,
                                  v1::TransferDirection direction) {
  v1::TransferRequest request;
  request.set_session(owner_->session);
  request.set_direction(direction);
  request.add_ranges()->set_tensor(tensor);
  if (const std::shared_ptr<StagingArea> area = FindPinned(data, bytes); area != nullptr) {
    request.set_staging(area->handle());
    request.mutable_ranges(0)->set_staging_offset(static_cast<uint64_t>(data - area->data()));
    request.mutable_ranges(0)->set_tensor_offset(offset);
    request.mutable_ranges(0)->set_bytes(bytes);
    return Call(*owner_->stub, &v1::StagingService::Stub::Transfer, request, absl::InfiniteDuration())
        .status();
  }
  MutexLock lock(&copy_mu_);
  TRUN_RETURN_IF_ERROR(EnsureOwn());
  request.set_staging(own_->handle());
  Copy copy{owner_->stub.get(), own_.get(), request, data, bytes, offset, options_.piece_bytes};
  const uint64_t pieces = (bytes + options_.piece_bytes - 1) / options_.piece_bytes;
  const int threads = static_cast<int>(std::min<uint64_t>(static_cast<uint64_t>(options_.threads), pieces));
  std::vector<absl::Status> results(static_cast<size_t>(threads));
  std::vector<std::thread> others;
  for (int i = 1; i < threads; ++i) {
    others.emplace_back([&copy, &results, i] { results[static_cast<size_t>(i)] = copy.Run(i); });
  }
  results[0] = copy.Run(0);
  for (std::thread& thread : others) thread.join();
  absl::Status status;
  for (absl::Status& result : results) status.Update(std::move(result));
  return status;
}

}  // namespace client
}  // namespace trun
