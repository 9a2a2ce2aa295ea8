// What each instruction is to RaceCheck, from its text.
#include "server/device/emulator/checks/instruction_words.h"
#include "server/device/emulator/checks/race_check.h"
#include "server/device/emulator/program/program.h"

namespace trun::device {

RaceCheck::Rule RaceCheck::RuleOf(const Program& program, uint32_t pc) {
  const InstructionWords words(program.sites[pc].text);
  const absl::string_view op = words.opcode;
  Rule rule;
  rule.groups = static_cast<uint32_t>(program.original->code[pc].immediate);
  rule.scope = words.Has("cta") ? Scope::kCta : words.Has("cluster") ? Scope::kCluster : Scope::kAll;
  rule.relaxed = words.Has("relaxed");
  const bool ordered = words.Has("acquire") || words.Has("release") || words.Has("acq_rel");
  if (op == "ld" || op == "ldu" || op == "st") {
    rule.kind = Kind::kAccess;
    rule.strong = ordered || words.Has("volatile") || words.Has("relaxed") || words.Has("mmio");
    rule.acquires = words.Has("acquire");
    rule.releases = words.Has("release");
  } else if (op == "ldmatrix" || op == "stmatrix" || op == "tensormap") {
    rule.kind = Kind::kAccess;
    rule.makes_map = op == "tensormap";
    rule.rows = op == "stmatrix";
    rule.bytes = words.Has("m16n8");
    rule.columns = words.Has("trans");
  } else if (op == "wmma" && !words.Has("mma")) {
    rule.kind = Kind::kAccess;
    rule.whole_warp = true;
  } else if (op == "atom" || op == "red") {
    rule.kind = Kind::kAtomic;
    rule.strong = true;
    rule.acquires = op == "atom" && (words.Has("acquire") || words.Has("acq_rel"));
    rule.releases = words.Has("release") || words.Has("acq_rel");
  } else if (op == "fence" && words.Has("proxy")) {
    // fence.proxy.async of one space or of all; .alias and the release of tensor maps order nothing here.
    const bool async = words.Has("async") || words.Has("async::generic");
    const bool shared =
        words.Has("shared::cta") || words.Has("shared::cluster") || words.Has("async::generic");
    const bool global = words.Has("global");
    const auto fences = [&rule](Proxy proxy, bool does) { rule.fences[static_cast<size_t>(proxy)] = does; };
    fences(Proxy::kAsyncShared, async && !global);
    fences(Proxy::kAsyncGlobal, async && !shared);
    fences(Proxy::kTensorMap, words.Has("tensormap::generic") && words.Has("acquire"));
    rule.kind = Kind::kProxyFence;
  } else if (op == "bar" && words.Has("warp")) {
    rule.kind = Kind::kWarpBarrier;
  } else if (op == "fence" || op == "membar") {
    rule.kind = Kind::kFence;
  } else if ((op == "bar" && !words.Has("warp")) || op == "barrier") {
    rule.kind = Kind::kBarrier;
    rule.arrives_only = words.Has("arrive");
    if (words.Has("cluster")) rule.kind = rule.arrives_only ? Kind::kClusterArrive : Kind::kClusterWait;
  } else if (op == "mbarrier") {
    if (words.Has("init")) rule.kind = Kind::kMbarrierInit;
    if (words.Has("arrive") || words.Has("arrive_drop") || words.Has("complete_tx"))
      rule.kind = Kind::kMbarrierArrive;
    rule.parity = words.Has("parity");
    if (words.Has("try_wait") || words.Has("test_wait")) rule.kind = Kind::kMbarrierWait;
  } else if (op == "wgmma") {
    if (words.Has("mma_async")) rule.kind = Kind::kWgmma;
    if (words.Has("commit_group")) rule.kind = Kind::kWgmmaCommit;
    if (words.Has("wait_group")) rule.kind = Kind::kWgmmaWait;
  } else if (op == "ret" || op == "exit") {
    rule.kind = Kind::kExit;
  } else if (op == "mov") {
    rule.kind = Kind::kMove;
  } else if (op == "cp") {
    bool bulk = words.Has("reduce");
    for (const absl::string_view word : words.modifiers) bulk |= word == "bulk";
    if (words.Has("prefetch")) return rule;
    if (words.Has("commit_group")) {
      rule.kind = bulk ? Kind::kBulkCommit : Kind::kCopyCommit;
    } else if (words.Has("wait_group") || words.Has("wait_all")) {
      rule.kind = bulk ? Kind::kBulkWait : Kind::kCopyWait;
      rule.all_groups = words.Has("wait_all");
      rule.reads_only = words.Has("read");
    } else if (bulk) {
      rule.kind = Kind::kBulk;
    } else if (words.Has("mbarrier") || words.Has("mbarrier::arrive")) {
      rule.kind = Kind::kCopyArrive;
    } else {
      rule.kind = Kind::kCopy;
    }
  }
  return rule;
}

}  // namespace trun::device
