"""The layering test sees what it is there to see: each violation, planted in a file of its own, is reported."""

from __future__ import annotations

from pathlib import Path

import layering_test
import pytest

VIOLATIONS = [
    ("server/compile/pipeline.cc", '#include "server/session/session.h"', "server/compile may not include"),
    ("server/compile/pipeline.cc", "#include <server/session/session.h>", "server/compile may not include"),
    ("client/cli/run.cc", '#include "server/device/device.h"', "client may not include"),
    ("common/base/bytes.h", '#include "common/ir/level.h"', "common/base may not include"),
    ("server/session/session.h", '#include "grpcpp/channel.h"', "may include this header"),
    ("server/session/session.h", "#include <grpcpp/channel.h>", "may include this header"),
    ("client/cli/run.cc", '#include "grpc/grpc.h"', "may include this header"),
    ("server/compile/pipeline.h", '#include "trun/v1/compile.grpc.pb.h"', "may include this header"),
    ("server/session/session.cc", '#include "trun/v1/session.pb.h"', "may include this header"),
    ("client/cpp/client.cc", '#include "trun/internal/v1/executor.pb.h"', "may include this header"),
    ("server/service/launch_service.cc", '#include "trun/internal/v1/executor.pb.h"', "may include this header"),
    ("server/cache/kernel_cache.h", '#include "rocksdb/db.h"', "may include this header"),
    ("server/cache/tiered_cache.cc", "#include <rocksdb/db.h>", "may include this header"),
    ("server/main/main.cc", "#  include <cuda.h>", "may include this header"),
    ("server/device/cuda_like/device.cc", '#include "cuda.h"', "may include this header"),
    ("server/session/session.cc", "  if (fork() == 0) return;", "belong to common/subprocess"),
    ("server/session/session.cc", "  ::execve(path, argv, envp);", "belong to common/subprocess"),
    ("server/session/session.cc", "  posix_spawnp(&pid, name, a, b, c, d);", "belong to common/subprocess"),
]


def check(root: Path, path: str, line: str) -> list[str]:
    (root / path).parent.mkdir(parents=True)
    (root / path).write_text(f"// A file.\n{line}\n")
    return layering_test.check_file(root, path)


@pytest.mark.parametrize(("path", "line", "report"), VIOLATIONS)
def test_a_planted_violation_is_reported_at_its_line(tmp_path: Path, path: str, line: str, report: str) -> None:
    problems = check(tmp_path, path, line)
    assert len(problems) == 1, problems
    assert problems[0].startswith(f"{path}:2: ") and report in problems[0]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("server/cache/rocksdb/store.cc", '#include "rocksdb/db.h"'),
        ("server/device/cuda/driver.h", "#include <cuda.h>"),
        ("server/service/call.h", '#include "grpcpp/support/server_callback.h"'),
        ("server/session/session_test.cc", '#include "grpcpp/channel.h"'),
        ("common/subprocess/child.cc", "  const pid_t child = fork();"),
        ("server/session/session.cc", '  return "an environment with that \\"fork\\" or fork (of Triton)";'),
        ("server/session/session.cc", "  session.fork();  // fork() of another kind"),
    ],
)
def test_what_is_allowed_is_not_reported(tmp_path: Path, path: str, line: str) -> None:
    assert check(tmp_path, path, line) == []


def test_a_name_that_says_nothing_and_a_file_that_grew_are_reported(tmp_path: Path) -> None:
    problems = check(tmp_path, "server/session/session_util.cc", "\n" * layering_test.MAX_SOURCE_LINES)
    assert len(problems) == 2 and "the name says nothing" in problems[1] and "split it" in problems[0]
