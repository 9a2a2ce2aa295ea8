#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "client/cli/artifact_files.h"
#include "client/cli/cache_transfer.h"
#include "client/cli/command.h"
#include "client/cli/exit_code.h"
#include "client/cli/file.h"
#include "client/cli/progress.h"
#include "client/cli/text.h"
#include "common/base/status.h"
#include "nlohmann/json.hpp"

namespace trun::cli {
namespace {

std::string Ago(absl::Time time) {
  const absl::Duration age = absl::Now() - time;
  return age < absl::Seconds(1) ? "now"
                                : absl::StrCat(DurationText(absl::Trunc(age, absl::Seconds(1))), " ago");
}

uint64_t TotalBytes(const CacheEntryInfo& entry) {
  uint64_t bytes = 0;
  for (const CacheBlobInfo& blob : entry.blobs) bytes += blob.bytes;
  return bytes;
}

nlohmann::ordered_json EntryJson(const CacheEntryInfo& entry) {
  nlohmann::ordered_json json;
  json["key"] = entry.key;
  json["kernel"] = entry.kernel_name;
  json["toolchain"] = entry.toolchain;
  json["target"] = entry.target;
  json["source_level"] = std::string(LevelName(entry.source_level));
  json["blobs"] = nlohmann::ordered_json::array();
  for (const CacheBlobInfo& blob : entry.blobs) {
    json["blobs"].push_back(
        {{"level", std::string(LevelName(blob.level))}, {"bytes", blob.bytes}, {"digest", blob.digest}});
  }
  json["created"] = absl::FormatTime(entry.created, absl::UTCTimeZone());
  json["last_used"] = absl::FormatTime(entry.last_used, absl::UTCTimeZone());
  json["hits"] = entry.hits;
  json["pinned"] = entry.pinned;
  if (!entry.error.empty()) json["error"] = entry.error;
  if (!entry.metadata_json.empty()) {
    const auto metadata = nlohmann::ordered_json::parse(entry.metadata_json, nullptr, false);
    json["metadata"] = metadata.is_discarded() ? nlohmann::ordered_json(entry.metadata_json) : metadata;
  }
  return json;
}

absl::StatusOr<int> Stats(const Cache& cache, Invocation& invocation) {
  TRUN_ASSIGN_OR_RETURN(const CacheStatistics found, cache.GetStatistics());
  if (invocation.options.json) {
    invocation.console.PrintJson({{"path", found.path},
                                  {"entries", found.entries},
                                  {"blob_bytes", found.blob_bytes},
                                  {"disk_bytes", found.disk_bytes},
                                  {"limit_bytes", found.limit_bytes},
                                  {"pinned", found.pinned},
                                  {"hits", found.hits},
                                  {"misses", found.misses},
                                  {"memory_hits", found.memory_hits},
                                  {"negative_hits", found.negative_hits},
                                  {"healed", found.healed},
                                  {"evicted", found.evicted}});
    return kExitOk;
  }
  const uint64_t lookups = found.hits + found.misses;
  invocation.console.Print(RenderFacts(
      {{"path", found.path},
       {"entries", absl::StrCat(FormatCount(found.entries), ", ", FormatCount(found.pinned), " pinned")},
       {"size",
        absl::StrCat(FormatBytes(found.disk_bytes), " on disk of at most ", FormatBytes(found.limit_bytes),
                     ", ", FormatBytes(found.blob_bytes), " of artifacts")},
       {"hits", absl::StrCat(FormatCount(found.hits), " of ", FormatCount(lookups), " lookups, ",
                             FormatCount(found.memory_hits), " from memory, ",
                             FormatCount(found.negative_hits), " remembered errors")},
       {"healed", FormatCount(found.healed)},
       {"evicted", FormatCount(found.evicted)}}));
  return kExitOk;
}

absl::StatusOr<int> Ls(const Cache& cache, Invocation& invocation) {
  TRUN_ASSIGN_OR_RETURN(const std::vector<CacheEntryInfo> entries, cache.List());
  if (invocation.options.json) {
    nlohmann::ordered_json json;
    json["entries"] = nlohmann::ordered_json::array();
    for (const CacheEntryInfo& entry : entries) json["entries"].push_back(EntryJson(entry));
    invocation.console.PrintJson(json);
    return kExitOk;
  }
  if (entries.empty()) {
    invocation.console.Print("the cache is empty\n");
    return kExitOk;
  }
  Table table({"key", "kernel", "levels", "target", "toolchain", "size", "hits", "last used", "state"});
  for (const CacheEntryInfo& entry : entries) {
    const std::string levels = absl::StrJoin(
        entry.blobs, " ",
        [](std::string* out, const CacheBlobInfo& blob) { absl::StrAppend(out, LevelName(blob.level)); });
    table.AddRow({entry.key.substr(0, 12), entry.kernel_name, levels, entry.target, entry.toolchain,
                  FormatBytes(TotalBytes(entry)), FormatCount(entry.hits), Ago(entry.last_used),
                  !entry.error.empty() ? "error"
                  : entry.pinned       ? "pinned"
                                       : ""});
  }
  invocation.console.Print(table.Render());
  return kExitOk;
}

absl::StatusOr<int> ShowInFolder(const std::string& key, const std::string& folder, const Cache& cache,
                                 Invocation& invocation) {
  TRUN_ASSIGN_OR_RETURN(const CacheEntryInfo entry, cache.Get(key));
  ArtifactFiles files{entry.kernel_name, {}, entry.metadata_json};
  for (const CacheBlobInfo& blob : entry.blobs) files.levels.push_back(blob.level);
  TRUN_ASSIGN_OR_RETURN(
      const std::vector<std::string> written,
      WriteArtifactFiles(folder, files, [&](Level level) { return cache.GetBlob(entry.key, level); }));
  if (invocation.options.json) {
    invocation.console.PrintJson({{"entry", EntryJson(entry)}, {"written", written}});
  } else {
    for (const std::string& path : written) invocation.console.Print(absl::StrCat("wrote ", path, "\n"));
  }
  return kExitOk;
}

absl::StatusOr<int> Show(const std::string& key, const std::string& level_name, const std::string& folder,
                         const Cache& cache, Invocation& invocation) {
  if (!folder.empty()) return ShowInFolder(key, folder, cache, invocation);
  if (!level_name.empty()) {
    TRUN_ASSIGN_OR_RETURN(const Level level, LevelFromName(level_name));
    TRUN_ASSIGN_OR_RETURN(const std::string blob, cache.GetBlob(key, level));
    invocation.console.Print(blob);
    return kExitOk;
  }
  TRUN_ASSIGN_OR_RETURN(const CacheEntryInfo entry, cache.Get(key));
  if (invocation.options.json) {
    invocation.console.PrintJson({{"entry", EntryJson(entry)}});
    return kExitOk;
  }
  std::vector<std::pair<std::string, std::string>> facts = {
      {"key", entry.key},
      {"kernel", entry.kernel_name},
      {"from", absl::StrCat(LevelName(entry.source_level), " by ", entry.toolchain, " for ", entry.target)},
      {"created", absl::FormatTime("%Y-%m-%d %H:%M:%S", entry.created, absl::LocalTimeZone())},
      {"last used", absl::StrCat(Ago(entry.last_used), ", ", FormatCount(entry.hits), " hits",
                                 entry.pinned ? ", pinned" : "")}};
  if (!entry.error.empty()) facts.emplace_back("error", entry.error);
  if (!entry.metadata_json.empty()) facts.emplace_back("metadata", entry.metadata_json);
  invocation.console.Print(RenderFacts(facts));
  Table table({"level", "size", "sha-256"});
  for (const CacheBlobInfo& blob : entry.blobs) {
    table.AddRow({std::string(LevelName(blob.level)), FormatBytes(blob.bytes), blob.digest});
  }
  if (!table.empty()) invocation.console.Print("\n" + table.Render());
  return kExitOk;
}

absl::StatusOr<int> Pin(const std::vector<std::string>& keys, bool pinned, const Cache& cache,
                        Invocation& invocation) {
  for (const std::string& key : keys) TRUN_RETURN_IF_ERROR(cache.SetPinned(key, pinned));
  if (invocation.options.json) {
    invocation.console.PrintJson({{pinned ? "pinned" : "unpinned", keys}});
  } else {
    invocation.console.Print(absl::StrCat(pinned ? "pinned " : "unpinned ", absl::StrJoin(keys, " "), "\n"));
  }
  return kExitOk;
}

absl::StatusOr<int> Evict(const std::vector<std::string>& keys, bool all, bool force, const Cache& cache,
                          Invocation& invocation) {
  if (keys.empty() != all) {
    return InvalidArgument(Reason::kUnspecified, "give the keys to remove, or --all");
  }
  TRUN_ASSIGN_OR_RETURN(const CacheEvictResult result,
                        all ? cache.EvictAll(force) : cache.Evict(keys, force));
  if (invocation.options.json) {
    invocation.console.PrintJson({{"evicted", result.evicted}, {"freed_bytes", result.freed_bytes}});
  } else {
    invocation.console.Print(absl::StrCat("removed ", FormatCount(result.evicted),
                                          result.evicted == 1 ? " entry, " : " entries, ",
                                          FormatBytes(result.freed_bytes), "\n"));
  }
  return kExitOk;
}

absl::StatusOr<int> Verify(const Cache& cache, Invocation& invocation) {
  absl::StatusOr<CacheVerifyResult> verified = absl::UnknownError("");
  {
    const Progress progress(invocation.console, "reading the cache");
    verified = cache.Verify();
  }
  TRUN_ASSIGN_OR_RETURN(const CacheVerifyResult result, std::move(verified));
  if (invocation.options.json) {
    invocation.console.PrintJson({{"entries", result.entries},
                                  {"blobs", result.blobs},
                                  {"bad_blobs", result.bad_blobs},
                                  {"removed", result.removed}});
    return kExitOk;
  }
  invocation.console.Print(absl::StrCat(
      "read ", FormatCount(result.blobs), " artifacts of ", FormatCount(result.entries), " entries: ",
      result.bad_blobs == 0 ? "all good" : absl::StrCat(FormatCount(result.bad_blobs), " bad"), "\n"));
  for (const std::string& key : result.removed) invocation.console.Print(absl::StrCat("removed ", key, "\n"));
  return kExitOk;
}

absl::StatusOr<int> Export(const std::string& file, const std::vector<std::string>& keys, const Cache& cache,
                           Invocation& invocation) {
  TRUN_ASSIGN_OR_RETURN(const uint64_t bytes, ExportToFile(file, keys, cache, invocation.console));
  if (file == "-") return kExitOk;
  if (invocation.options.json) {
    invocation.console.PrintJson({{"file", file}, {"bytes", bytes}});
  } else {
    invocation.console.Print(absl::StrCat("wrote ", file, ", ", FormatBytes(bytes), "\n"));
  }
  return kExitOk;
}

absl::StatusOr<int> Import(const std::string& file, const Cache& cache, Invocation& invocation) {
  TRUN_ASSIGN_OR_RETURN(const CacheImportResult result, ImportFromFile(file, cache, invocation.console));
  if (invocation.options.json) {
    invocation.console.PrintJson({{"imported", result.imported}, {"already_there", result.already_there}});
  } else {
    invocation.console.Print(absl::StrCat("took ", FormatCount(result.imported), " entries; ",
                                          FormatCount(result.already_there), " were there already\n"));
  }
  return kExitOk;
}

using CacheRun = std::function<absl::StatusOr<int>(const Cache&, Invocation&)>;

CLI::App* AddLeaf(CLI::App& parent, CommandTree& tree, const char* name, const char* what, CacheRun run) {
  CLI::App* leaf = parent.add_subcommand(name, what);
  tree.commands.push_back({leaf, [run = std::move(run)](Invocation& invocation) -> absl::StatusOr<int> {
                             TRUN_ASSIGN_OR_RETURN(const Client client, invocation.Connect());
                             return run(client.cache(), invocation);
                           }});
  return leaf;
}

}  // namespace

void AddCache(CLI::App& root, CommandTree& tree) {
  CLI::App* command = root.add_subcommand("cache", "Look at and look after the kernel cache");
  command->require_subcommand(1);
  command->footer(
      "Keys may be cut to any unique beginning of at least 6 digits.\n\n"
      "Examples:\n"
      "  trun-client cache ls\n"
      "  trun-client cache show 3fa94c --level ptx > kernel.ptx\n"
      "  trun-client cache show 3fa94c -o kernel && trun-client run kernel/NAME.ptx ...\n"
      "  trun-client cache export kernels.trun && trun-client --address unix:/other.sock cache import "
      "kernels.trun\n");
  struct Values {
    std::string key, level, file, folder;
    std::vector<std::string> keys;
    bool all = false, force = false;
  };
  AddLeaf(*command, tree, "stats", "Size, hits and misses", Stats);
  AddLeaf(*command, tree, "ls", "Every entry, the last used first", Ls);
  AddLeaf(*command, tree, "verify", "Read everything, remove what is bad", Verify);

  auto values = std::make_shared<Values>();
  CLI::App* show = AddLeaf(*command, tree, "show", "One entry, or one of its artifacts",
                           [values](const Cache& c, Invocation& i) {
                             return Show(values->key, values->level, values->folder, c, i);
                           });
  show->add_option("key", values->key, "The entry")->required();
  CLI::Option* level =
      show->add_option("--level", values->level, "Print this artifact's bytes")->type_name("LEVEL");
  show->add_option("-o,--output", values->folder,
                   "Write every artifact and the metadata there: what `run` takes")
      ->type_name("FOLDER")
      ->excludes(level);

  CLI::App* pin = AddLeaf(*command, tree, "pin", "Keep entries whatever the size of the cache",
                          [values](const Cache& c, Invocation& i) { return Pin(values->keys, true, c, i); });
  pin->add_option("keys", values->keys, "The entries")->required();
  CLI::App* unpin =
      AddLeaf(*command, tree, "unpin", "Let entries go again",
              [values](const Cache& c, Invocation& i) { return Pin(values->keys, false, c, i); });
  unpin->add_option("keys", values->keys, "The entries")->required();

  CLI::App* evict =
      AddLeaf(*command, tree, "evict", "Remove entries", [values](const Cache& c, Invocation& i) {
        return Evict(values->keys, values->all, values->force, c, i);
      });
  evict->add_option("keys", values->keys, "The entries");
  evict->add_flag("--all", values->all, "Every entry");
  evict->add_flag("--force", values->force, "Pinned ones too");

  CLI::App* export_leaf =
      AddLeaf(*command, tree, "export", "Write entries to a file",
              [values](const Cache& c, Invocation& i) { return Export(values->file, values->keys, c, i); });
  export_leaf->add_option("file", values->file, "- is standard output")->required();
  export_leaf->add_option("keys", values->keys, "The entries; else all");
  CLI::App* import_leaf =
      AddLeaf(*command, tree, "import", "Take the entries of such a file",
              [values](const Cache& c, Invocation& i) { return Import(values->file, c, i); });
  import_leaf->add_option("file", values->file, "- is standard input")->required();
}

}  // namespace trun::cli
