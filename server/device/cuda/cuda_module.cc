#include "server/device/cuda/cuda_module.h"

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "server/artifact/cubin_facts.h"
#include "server/device/cuda/result.h"

namespace trun::device {
namespace {

constexpr size_t kMaxParameters = 4096;
constexpr uint32_t kTensorMapParameterBytes = 128;

// The driver reads an image without being told its length: everything that its headers point to must be
// inside. ReadCubinFacts has checked the sections; these are the segments (System V gABI, chapter 5).
absl::Status CheckSegments(absl::string_view image) {
  uint64_t table = 0;
  uint16_t entry_bytes = 0, count = 0;
  std::memcpy(&table, image.data() + 32, sizeof(table));
  std::memcpy(&entry_bytes, image.data() + 54, sizeof(entry_bytes));
  std::memcpy(&count, image.data() + 56, sizeof(count));
  const auto outside = [&](uint64_t offset, uint64_t bytes) {
    return offset > image.size() || bytes > image.size() - offset;
  };
  constexpr uint16_t kSegmentBytes = 56;
  if (count == 0) return absl::OkStatus();
  if (entry_bytes != kSegmentBytes || outside(table, uint64_t{count} * kSegmentBytes)) {
    return InvalidArgument(Reason::kInvalidIr,
                           "the cubin is damaged: its segment table lies outside the file");
  }
  for (uint16_t i = 0; i < count; ++i) {
    uint64_t offset = 0, bytes = 0;
    std::memcpy(&offset, image.data() + table + i * kSegmentBytes + 8, sizeof(offset));
    std::memcpy(&bytes, image.data() + table + i * kSegmentBytes + 32, sizeof(bytes));
    if (outside(offset, bytes)) {
      return InvalidArgument(Reason::kInvalidIr,
                             absl::StrCat("the cubin is damaged: segment ", i, " lies outside the file"));
    }
  }
  return absl::OkStatus();
}

uint32_t AlignOf(uint32_t bytes) {
  if (bytes == kTensorMapParameterBytes) return 64;
  uint32_t align = 1;
  while (align < 8 && bytes % (2 * align) == 0) align *= 2;
  return align;
}

class CudaModule final : public Module {
 public:
  CudaModule(std::shared_ptr<CudaContext> context, CUmodule module)
      : context_(std::move(context)), module_(module) {}
  ~CudaModule() override {
    if (context_->Enter().ok()) context_->driver().cuModuleUnload(module_);
  }

  void Add(std::unique_ptr<CudaKernel> kernel) { kernels_.push_back(std::move(kernel)); }

  absl::StatusOr<const Kernel*> GetKernel(absl::string_view name) const override {
    if (name.empty() && kernels_.size() == 1) return kernels_.front().get();
    std::string names;
    for (const std::unique_ptr<CudaKernel>& kernel : kernels_) {
      if (kernel->attributes().name == name) return kernel.get();
      absl::StrAppend(&names, names.empty() ? "" : ", ", kernel->attributes().name);
    }
    if (name.empty()) {
      return InvalidArgument(Reason::kArgument,
                             absl::StrCat("the module has several entries, name one: ", names));
    }
    return NotFound(Reason::kArgument, absl::StrCat("no entry '", name, "' in the module; it has: ", names));
  }

 private:
  const std::shared_ptr<CudaContext> context_;
  const CUmodule module_;
  std::vector<std::unique_ptr<CudaKernel>> kernels_;
};

}  // namespace

class CudaModuleLoader {
 public:
  explicit CudaModuleLoader(const std::shared_ptr<CudaContext>& context)
      : context_(context), driver_(context->driver()) {}

  absl::StatusOr<std::unique_ptr<Module>> Load(absl::string_view image) {
    TRUN_ASSIGN_OR_RETURN(const CubinFacts facts, ReadCubinFacts(image));
    TRUN_RETURN_IF_ERROR(CheckSegments(image));
    const int arch = context_->info().target.arch;
    if (facts.arch / 10 != arch / 10 || facts.arch > arch) {
      return FailedPrecondition(Reason::kUnsupportedTarget,
                                absl::StrCat("the cubin is for sm_", facts.arch, ", the device is sm_", arch,
                                             ": compile it for this device"));
    }
    TRUN_RETURN_IF_ERROR(context_->Enter());
    const std::string aligned(image);  // the driver wants words at their alignment
    CUmodule loaded = nullptr;
    TRUN_RETURN_IF_ERROR(
        context_->Check(driver_.cuModuleLoadData(&loaded, aligned.data()), "loading a cubin"));
    auto module = std::make_unique<CudaModule>(context_, loaded);
    const bool prints = absl::StrContains(image, "vprintf");
    for (const CubinEntry& entry : facts.entries) {
      auto kernel = std::make_unique<CudaKernel>();
      kernel->prints_ = prints;
      TRUN_RETURN_IF_ERROR(Describe(loaded, entry, kernel.get()));
      module->Add(std::move(kernel));
    }
    return module;
  }

 private:
  absl::Status Describe(CUmodule module, const CubinEntry& entry, CudaKernel* kernel) {
    const std::string what = absl::StrCat("kernel '", entry.name, "'");
    TRUN_RETURN_IF_ERROR(
        context_->Check(driver_.cuModuleGetFunction(&kernel->function_, module, entry.name.c_str()), what));
    const CUfunction function = kernel->function_;
    if (driver_.cuFuncLoad != nullptr) {
      TRUN_RETURN_IF_ERROR(context_->Check(driver_.cuFuncLoad(function), absl::StrCat("loading ", what)));
    }
    KernelAttributes& attributes = kernel->attributes_;
    attributes.name = entry.name;
    attributes.required_block = entry.required_block;
    attributes.max_block = entry.max_block;
    kernel->required_cluster_ = entry.required_cluster;
    TRUN_RETURN_IF_ERROR(
        Attribute(function, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, &attributes.static_shared_bytes));
    TRUN_RETURN_IF_ERROR(Attribute(function, CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES, &attributes.local_bytes));
    TRUN_RETURN_IF_ERROR(Attribute(function, CU_FUNC_ATTRIBUTE_NUM_REGS, &attributes.registers));
    TRUN_RETURN_IF_ERROR(Parameters(function, entry, &attributes));
    return OptIn(function, attributes);
  }

  absl::Status Attribute(CUfunction function, CUfunction_attribute which, uint32_t* out) {
    int value = 0;
    TRUN_RETURN_IF_ERROR(context_->Check(driver_.cuFuncGetAttribute(&value, which, function),
                                         "asking for a fact of a kernel"));
    *out = static_cast<uint32_t>(value);
    return absl::OkStatus();
  }

  // The driver's own word where it gives it (CUDA 12.4), else what the cubin says.
  absl::Status Parameters(CUfunction function, const CubinEntry& entry, KernelAttributes* attributes) {
    attributes->parameter_bytes = entry.parameter_bytes;
    for (const CubinParameter& parameter : entry.parameters) {
      attributes->parameters.push_back({parameter.offset, parameter.bytes, AlignOf(parameter.bytes)});
    }
    if (driver_.cuFuncGetParamInfo == nullptr) return absl::OkStatus();
    std::vector<ParameterLayout> told;
    uint32_t end = 0;
    while (told.size() <= kMaxParameters) {
      size_t offset = 0, bytes = 0;
      const CUresult result = driver_.cuFuncGetParamInfo(function, told.size(), &offset, &bytes);
      if (result == CUDA_ERROR_INVALID_VALUE) break;  // past the last
      TRUN_RETURN_IF_ERROR(context_->Check(result, "asking for a kernel's parameters"));
      const auto size = static_cast<uint32_t>(bytes);
      told.push_back({static_cast<uint32_t>(offset), size, AlignOf(size)});
      end = told.back().offset + size;
    }
    attributes->parameters = std::move(told);
    attributes->parameter_bytes = end;
    return absl::OkStatus();
  }

  // Once and not at each launch: shared memory over 48 KiB, clusters of more than 8.
  absl::Status OptIn(CUfunction function, const KernelAttributes& attributes) {
    const uint32_t most = context_->info().max_shared_bytes;
    if (most > attributes.static_shared_bytes) {
      TRUN_RETURN_IF_ERROR(context_->Check(
          driver_.cuFuncSetAttribute(function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                     static_cast<int>(most - attributes.static_shared_bytes)),
          "allowing a kernel its shared memory"));
    }
    if (context_->info().target.arch < 90) return absl::OkStatus();
    return context_->Check(
        driver_.cuFuncSetAttribute(function, CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 1),
        "allowing a kernel clusters of 16");
  }

  const std::shared_ptr<CudaContext>& context_;
  const Driver& driver_;
};

absl::StatusOr<std::unique_ptr<Module>> LoadCudaModule(const std::shared_ptr<CudaContext>& context,
                                                       absl::string_view image) {
  return CudaModuleLoader(context).Load(image);
}

}  // namespace trun::device
