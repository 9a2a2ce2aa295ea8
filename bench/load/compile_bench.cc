// Compiles what it reads, one kernel after the other, through the C++ client, and says how long each took:
//   compile_bench SOCKET TOOLCHAIN
// A line on stdin is FILE.ttir NAME: the kernel of the file is called NAME instead, so that nothing of it is
// in the cache. A line on stdout is the milliseconds until the client had the cubin.
#include <trun/client.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "bench/load/need.h"

using trun::Need;

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: compile_bench SOCKET TOOLCHAIN\n";
    return 2;
  }
  trun::ClientOptions client_options;
  client_options.address = absl::StrCat("unix:", argv[1]);
  trun::Client client = Need(trun::Client::Connect(client_options));
  trun::Session session = Need(client.OpenSession());
  trun::CompileOptions options;
  options.level = trun::Level::kTtir;
  options.last_level = trun::Level::kCubin;
  options.toolchain = argv[2];
  std::string path, name;
  while (std::cin >> path >> name) {
    std::ifstream file(path);
    std::stringstream text;
    text << file.rdbuf();
    const std::string stem = std::filesystem::path(path).stem().string();
    const std::string ir =
        absl::StrReplaceAll(text.str(), {{absl::StrCat("@", stem, "("), absl::StrCat("@", name, "(")}});
    const auto start = std::chrono::steady_clock::now();
    const trun::Kernel kernel = Need(session.Compile(ir, options));
    const std::chrono::duration<double, std::milli> spent = std::chrono::steady_clock::now() - start;
    if (kernel.info().cached) {
      std::cerr << path << " as " << name << " was in the cache\n";
      return 1;
    }
    std::cout << spent.count() << std::endl;
  }
  return 0;
}
