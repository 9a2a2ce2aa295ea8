// Sizes that clients and the daemon agree on. The daemon checks every one of them.
#ifndef TRUN_COMMON_RPC_LIMITS_H_
#define TRUN_COMMON_RPC_LIMITS_H_

#include <cstddef>
#include <cstdint>

namespace trun {

// One gRPC message, either way.
constexpr int kMaxMessageBytes = 4 << 20;
// What one message of a chunked stream carries: Upload, Write, Read, GetArtifact, cache export.
constexpr size_t kMaxChunkBytes = 1 << 20;
// IR inside a CompileRequest; more is uploaded first.
constexpr size_t kMaxInlineIrBytes = 2 << 20;
// A kernel file of any level.
constexpr size_t kMaxFileBytes = 64 << 20;
// Uploaded files kept for one tenant.
constexpr size_t kMaxUploadedBytesPerTenant = 256 << 20;
// A kernel's metadata JSON.
constexpr size_t kMaxMetadataJsonBytes = 1 << 20;
// A name or a line of text in a request or an answer: an option, a version, a path.
constexpr size_t kMaxNameBytes = 4096;
// Headers and trailers, either way: an error with its details must fit.
constexpr int kMaxMetadataBytes = 32 << 10;
// sun_path, with its final zero.
constexpr size_t kMaxSocketPathBytes = 107;
// Descriptors in one SCM_RIGHTS message, and in one exchange.
constexpr size_t kMaxDescriptorsPerMessage = 64;
constexpr size_t kMaxDescriptorsPerExchange = 4096;
constexpr uint32_t kProtocolVersion = 1;

}  // namespace trun

#endif  // TRUN_COMMON_RPC_LIMITS_H_
