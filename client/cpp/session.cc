#include "trun/session.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cpp/kernel_conversion.h"
#include "client/cpp/launch_stream.h"
#include "client/cpp/session_state.h"
#include "common/base/digest.h"
#include "common/base/unique_fd.h"
#include "common/rpc/limits.h"

namespace trun {
inline namespace client {
namespace {

absl::StatusOr<std::string> ReadKernelFile(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return FromErrno(errno, absl::StrCat("cannot open '", path, "'"), Reason::kUnspecified);
  struct stat info;
  if (fstat(fd.get(), &info) != 0)
    return FromErrno(errno, absl::StrCat("cannot read '", path, "'"), Reason::kUnspecified);
  if (!S_ISREG(info.st_mode)) {
    return InvalidArgument(Reason::kUnspecified, absl::StrCat("'", path, "' is not a file"));
  }
  if (static_cast<uint64_t>(info.st_size) > kMaxFileBytes) {
    return ResourceExhausted(
        Reason::kTooLarge,
        absl::StrCat("'", path, "' has ", info.st_size, " bytes; a kernel file may have ", kMaxFileBytes),
        {{"limit", absl::StrCat(kMaxFileBytes)}});
  }
  std::string text(static_cast<size_t>(info.st_size), '\0');
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = read(fd.get(), &text[done], text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return FromErrno(errno, absl::StrCat("cannot read '", path, "'"), Reason::kUnspecified);
    if (n == 0) break;  // it became shorter meanwhile
    done += static_cast<size_t>(n);
  }
  text.resize(done);
  return text;
}

// The level that a file name's extension names; kUnspecified where it names none.
Level LevelOfFileName(absl::string_view name) {
  const size_t dot = name.rfind('.');
  if (dot == absl::string_view::npos) return Level::kUnspecified;
  const absl::string_view extension = name.substr(dot + 1);
  if (extension == "py") return Level::kPython;
  absl::StatusOr<Level> level = LevelFromName(extension);
  return level.ok() ? *level : Level::kUnspecified;
}

// Sends the file unless the server has it already.
absl::Status Upload(SessionState& state, absl::string_view ir, const std::string& digest) {
  v1::FindMissingRequest find;
  find.set_session(state.id);
  find.add_digests(digest);
  TRUN_ASSIGN_OR_RETURN(const v1::FindMissingResponse found,
                        Call(*state.compiles, &v1::CompileService::Stub::FindMissing, find));
  if (found.missing_size() == 0) return absl::OkStatus();
  grpc::ClientContext context;
  v1::UploadResponse response;
  auto writer = state.compiles->Upload(&context, &response);
  v1::UploadRequest chunk;
  chunk.set_session(state.id);
  for (size_t at = 0; at < ir.size(); at += kMaxChunkBytes) {
    const absl::string_view part = ir.substr(at, kMaxChunkBytes);
    chunk.set_data(part.data(), part.size());
    if (!writer->Write(chunk)) break;  // Finish says why
    chunk.clear_session();
  }
  writer->WritesDone();
  TRUN_RETURN_IF_ERROR(FromGrpcStatus(writer->Finish()));
  if (response.digest() != digest) {
    return DataLoss(Reason::kCorrupt, absl::StrCat("the daemon received ", response.digest(), " where ",
                                                   digest, " was sent: try again"));
  }
  return absl::OkStatus();
}

}  // namespace

Session::Session(std::shared_ptr<SessionState> state) : state_(std::move(state)) {}
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&& other) noexcept {
  if (this != &other) {
    if (state_) state_->Close().IgnoreError();
    state_ = std::move(other.state_);
  }
  return *this;
}
// Tensors and kernels may hold the state for longer: the session ends here all the same.
Session::~Session() {
  if (state_) state_->Close().IgnoreError();
}

const std::string& Session::id() const { return state_->id; }
const std::string& Session::device() const { return state_->opened.device(); }
const std::string& Session::device_name() const { return state_->opened.device_name(); }
const std::string& Session::target() const { return state_->opened.device_target(); }
const std::string& Session::server_version() const { return state_->opened.server_version(); }
uint64_t Session::memory_limit_bytes() const { return state_->opened.memory_limit_bytes(); }

absl::StatusOr<Kernel> Session::Compile(absl::string_view ir, const CompileOptions& options) {
  TRUN_RETURN_IF_ERROR(state_->CheckOpen());
  const Level level =
      options.level != Level::kUnspecified ? options.level : LevelOfFileName(options.file_name);
  if (level == Level::kUnspecified && options.resume_after_pass.empty()) {
    return InvalidArgument(Reason::kUnsupportedLevel,
                           absl::StrCat("the level of '", options.file_name,
                                        "' is not in its name: give one of ttir, ttgir, llir, ptx, cubin"));
  }
  v1::CompileRequest request = ToProto(options, level);
  request.set_session(state_->id);
  if (ir.size() <= kMaxInlineIrBytes) {
    request.set_ir(ir.data(), ir.size());
  } else if (ir.size() > kMaxFileBytes) {
    return ResourceExhausted(
        Reason::kTooLarge,
        absl::StrCat("the kernel has ", ir.size(), " bytes; a kernel file may have ", kMaxFileBytes),
        {{"limit", absl::StrCat(kMaxFileBytes)}});
  } else {
    const std::string digest = Digest::Of(ir).ToHex();
    TRUN_RETURN_IF_ERROR(Upload(*state_, ir, digest));
    request.set_digest(digest);
  }

  grpc::ClientContext context;
  // The server ends a compile at the deadline; some time more for its answer to arrive.
  if (options.deadline > absl::ZeroDuration()) SetTimeout(context, options.deadline + absl::Seconds(30));
  auto reader = state_->compiles->Compile(&context, request);
  Kernel kernel;
  bool finished = false;
  std::vector<StageEvent> stages;
  v1::CompileResponse response;
  while (reader->Read(&response)) {
    if (response.has_kernel()) {
      kernel.handle_ = response.kernel().kernel();
      kernel.info_ = FromProto(response.kernel());
      finished = true;
    } else {
      const StageEvent event = FromProto(response);
      if (event.done) stages.push_back(event);
      if (options.on_stage) options.on_stage(event);
    }
  }
  TRUN_RETURN_IF_ERROR(FromGrpcStatus(reader->Finish()));
  if (!finished) {
    return MakeError(absl::StatusCode::kInternal, Reason::kProtocol,
                     "the daemon ended the compile without a kernel");
  }
  kernel.info_.stages = std::move(stages);
  kernel.state_ = state_;
  return kernel;
}

absl::StatusOr<Kernel> Session::CompileFile(const std::string& path, CompileOptions options) {
  TRUN_ASSIGN_OR_RETURN(const std::string text, ReadKernelFile(path));
  if (options.file_name.empty()) options.file_name = path;
  if (options.level == Level::kUnspecified) options.level = LevelOfFileName(path);
  return Compile(text, options);
}

absl::StatusOr<Tensor> Session::Allocate(ScalarType dtype, std::vector<uint64_t> shape) {
  const TensorSpec spec{dtype, std::move(shape)};
  TRUN_ASSIGN_OR_RETURN(std::vector<Tensor> tensors, Allocate(absl::MakeConstSpan(&spec, 1)));
  return std::move(tensors[0]);
}

absl::StatusOr<std::vector<Tensor>> Session::Allocate(absl::Span<const TensorSpec> specs) {
  TRUN_RETURN_IF_ERROR(state_->CheckOpen());
  v1::AllocateRequest request;
  request.set_session(state_->id);
  for (const TensorSpec& spec : specs) {
    v1::TensorSpec* out = request.add_tensors();
    out->set_dtype(static_cast<v1::Dtype>(spec.dtype));
    out->mutable_shape()->Assign(spec.shape.begin(), spec.shape.end());
  }
  TRUN_ASSIGN_OR_RETURN(const v1::AllocateResponse response,
                        Call(*state_->tensors, &v1::TensorService::Stub::Allocate, request));
  if (response.tensors_size() != static_cast<int>(specs.size())) {
    return MakeError(absl::StatusCode::kInternal, Reason::kProtocol,
                     absl::StrCat("the daemon allocated ", response.tensors_size(), " tensors where ",
                                  specs.size(), " were asked for"));
  }
  std::vector<Tensor> tensors;
  for (int i = 0; i < response.tensors_size(); ++i) {
    const v1::TensorInfo& info = response.tensors(i);
    Tensor tensor;
    tensor.state_ = state_;
    tensor.handle_ = info.tensor();
    tensor.spec_ = specs[static_cast<size_t>(i)];
    tensor.bytes_ = info.bytes();
    tensor.device_address_ = info.device_address();
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

absl::StatusOr<PinnedMemory> Session::AllocatePinned(uint64_t bytes) {
  TRUN_RETURN_IF_ERROR(state_->CheckOpen());
  PinnedMemory memory;
  absl::StatusOr<std::shared_ptr<StagingArea>> area = state_->staging.Create(bytes, &memory.unpinned_reason_);
  if (area.ok()) {
    memory.bytes_ = absl::MakeSpan((*area)->data(), bytes);
    memory.owner_ = *std::move(area);
    return memory;
  }
  if (!absl::IsFailedPrecondition(area.status())) return area.status();
  memory.unpinned_reason_ = std::string(area.status().message());
  void* const ordinary = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (ordinary == MAP_FAILED) {
    return FromErrno(errno, absl::StrCat("cannot allocate ", bytes, " bytes"), Reason::kOutOfMemory);
  }
  memory.bytes_ = absl::MakeSpan(static_cast<char*>(ordinary), bytes);
  memory.owner_ = std::shared_ptr<const void>(ordinary, [bytes](void* p) { munmap(p, bytes); });
  return memory;
}

absl::StatusOr<LaunchStream> Session::OpenLaunchStream() {
  TRUN_RETURN_IF_ERROR(state_->CheckOpen());
  return LaunchStream(std::make_unique<LaunchStream::Impl>(state_));
}

absl::StatusOr<SynchronizeResult> Session::Synchronize() {
  TRUN_RETURN_IF_ERROR(state_->CheckOpen());
  v1::SynchronizeRequest request;
  request.set_session(state_->id);
  absl::StatusOr<v1::SynchronizeResponse> response =
      Call(*state_->launches, &v1::LaunchService::Stub::Synchronize, request, absl::InfiniteDuration());
  TRUN_RETURN_IF_ERROR(response.status());
  state_->NoteSynchronized();
  return SynchronizeResult{response->last_sequence(), response->printed()};
}

absl::Status Session::Close() { return state_->Close(); }

}  // namespace client
}  // namespace trun
