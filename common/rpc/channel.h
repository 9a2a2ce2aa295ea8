// How clients reach the daemon: one place for channel settings.
#ifndef TRUN_COMMON_RPC_CHANNEL_H_
#define TRUN_COMMON_RPC_CHANNEL_H_

#include <memory>
#include <string>

#include "grpcpp/channel.h"
#include "grpcpp/support/channel_arguments.h"

namespace trun {

// Message and metadata limits of common/rpc/limits.h; no proxy, no service config lookups, no subchannel
// shared with other channels of the process.
grpc::ChannelArguments ClientChannelArguments();

// A channel to a daemon's UNIX socket; connects when first used. REQUIRES: CheckSocketPath(path) is OK.
std::shared_ptr<grpc::Channel> MakeUnixChannel(const std::string& socket_path);

}  // namespace trun

#endif  // TRUN_COMMON_RPC_CHANNEL_H_
