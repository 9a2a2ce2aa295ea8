#include "server/executor/runtime/executor_main.h"

#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>

#include "server/executor/runtime/executor_loop.h"

namespace trun {

int ExecutorMain(const DeviceRegistry& devices, ExecutorLoopOptions options) {
  int type = 0;
  socklen_t size = sizeof(type);
  if (getsockopt(kExecutorSocket, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_STREAM) {
    std::fprintf(stderr, "trun-executor is started by trund, with a socket as descriptor %d\n",
                 kExecutorSocket);
    return 1;
  }
  std::signal(SIGPIPE, SIG_IGN);
  options.abandon = [] { _exit(0); };
  const absl::Status status = ExecutorLoop(UniqueFd(kExecutorSocket), &devices, options).Run();
  if (!status.ok()) {
    std::fprintf(stderr, "trun-executor: %s\n", status.ToString().c_str());
    return 1;
  }
  return 0;
}

}  // namespace trun
