// Times of calls over trund's socket, as JSON on stdout:
//   socket_bench SOCKET FILE.ttir [COUNT]
// An empty unary RPC (KeepAlive) and a Compile that hits the cache, taken in turn so that a drifting machine
// drifts for both; then opening sessions with a warm executor, one at a time, each given time to be replaced.
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iostream>
#include <sstream>
#include <thread>
#include <vector>

#include "trun/v1/compile.grpc.pb.h"
#include "trun/v1/session.grpc.pb.h"

namespace {

using Clock = std::chrono::steady_clock;

double MicrosecondsSince(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

std::string Quantiles(std::vector<double> times) {
  std::sort(times.begin(), times.end());
  std::ostringstream out;
  out << "{\"p50_us\": " << times[times.size() / 2] << ", \"p90_us\": " << times[times.size() * 9 / 10]
      << ", \"p99_us\": " << times[times.size() * 99 / 100] << ", \"count\": " << times.size() << "}";
  return out.str();
}

[[noreturn]] void Fail(const char* what, const grpc::Status& status) {
  std::cerr << what << ": " << status.error_message() << "\n";
  std::exit(1);
}

std::string OpenSession(trun::v1::SessionService::Stub& sessions) {
  grpc::ClientContext context;
  trun::v1::OpenSessionRequest request;
  trun::v1::OpenSessionResponse response;
  request.set_protocol_version(1);
  request.set_client_name("socket_bench");
  const grpc::Status status = sessions.OpenSession(&context, request, &response);
  if (!status.ok()) Fail("OpenSession", status);
  return response.session();
}

void CloseSession(trun::v1::SessionService::Stub& sessions, const std::string& session) {
  grpc::ClientContext context;
  trun::v1::CloseSessionRequest request;
  trun::v1::CloseSessionResponse response;
  request.set_session(session);
  const grpc::Status status = sessions.CloseSession(&context, request, &response);
  if (!status.ok()) Fail("CloseSession", status);
}

void KeepAlive(trun::v1::SessionService::Stub& sessions, const std::string& session) {
  grpc::ClientContext context;
  trun::v1::KeepAliveRequest request;
  trun::v1::KeepAliveResponse response;
  request.set_session(session);
  const grpc::Status status = sessions.KeepAlive(&context, request, &response);
  if (!status.ok()) Fail("KeepAlive", status);
}

bool Compile(trun::v1::CompileService::Stub& compiler, const std::string& session, const std::string& ir) {
  grpc::ClientContext context;
  trun::v1::CompileRequest request;
  request.set_session(session);
  request.set_level(trun::v1::LEVEL_TTIR);
  request.set_ir(ir);
  auto events = compiler.Compile(&context, request);
  trun::v1::CompileResponse event;
  bool cached = false;
  while (events->Read(&event)) cached = event.has_kernel() && event.kernel().cached();
  const grpc::Status status = events->Finish();
  if (!status.ok()) Fail("Compile", status);
  return cached;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: socket_bench SOCKET FILE.ttir [COUNT]\n";
    return 2;
  }
  const int count = argc > 3 ? std::atoi(argv[3]) : 2000;
  std::ifstream file(argv[2]);
  std::stringstream ir;
  ir << file.rdbuf();
  auto channel = grpc::CreateChannel(std::string("unix:") + argv[1], grpc::InsecureChannelCredentials());
  auto sessions = trun::v1::SessionService::NewStub(channel);
  auto compiler = trun::v1::CompileService::NewStub(channel);

  const std::string session = OpenSession(*sessions);
  for (int i = 0; i < 100; ++i) {
    KeepAlive(*sessions, session);
    Compile(*compiler, session, ir.str());
  }
  std::vector<double> empty, hit;
  for (int i = 0; i < count; ++i) {
    auto start = Clock::now();
    KeepAlive(*sessions, session);
    empty.push_back(MicrosecondsSince(start));
    start = Clock::now();
    if (!Compile(*compiler, session, ir.str())) {
      std::cerr << "a compile that should hit the cache did not\n";
      return 1;
    }
    hit.push_back(MicrosecondsSince(start));
  }
  std::vector<double> open;
  for (int i = 0; i < 30; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(150));  // the spare is made anew
    const auto start = Clock::now();
    const std::string opened = OpenSession(*sessions);
    open.push_back(MicrosecondsSince(start));
    CloseSession(*sessions, opened);
  }
  CloseSession(*sessions, session);
  std::cout << "{\"empty_unary\": " << Quantiles(empty) << ", \"compile_hit\": " << Quantiles(hit)
            << ", \"open_session\": " << Quantiles(open) << "}\n";
  return 0;
}
