"""kill -9 of each kind of process, at seeded random times, under load.

No wrong result, no finished cache entry lost, no process, descriptor, memory file or file leaked. TRUN_KILLS (200) is
how many different processes of each kind are killed, TRUN_SEED (1) the seed. The kinds: daemons, executors that a
session has, spare ones, compile workers, front ends' zygotes, the children that these fork to lower a source, clients.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import kernels
import numpy as np
import pytest
from conftest import BUILD, TOOLCHAINS
from daemon import CallError, Daemon, Session, wait_until
from footprint import difference, direct_children, files, footprint, start_time
from trun.v1 import toolchain_pb2

KILLS = int(os.environ.get("TRUN_KILLS", "200"))
SEED = int(os.environ.get("TRUN_SEED", "1"))
DEVICES = 2  # each keeps a spare executor

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One with two workers of a kind on any machine: as many as there are threads that compile here."""
    running = Daemon(tmp_path_factory.mktemp("trund"), BUILD, TOOLCHAINS, "--compile-workers", "2")
    running.start()
    yield running
    running.stop()


class Load:
    """Threads that do one thing again and again until told to stop; whatever goes wrong in them is kept."""

    def __init__(self, *jobs: Any) -> None:
        self.stopping = threading.Event()
        self.wrong: list[str] = []
        self.lock = threading.Lock()
        self.done = 0
        self.threads = [threading.Thread(target=self._run, args=(job,)) for job in jobs]
        for thread in self.threads:
            thread.start()

    def _run(self, job: Any) -> None:
        while not self.stopping.is_set():
            try:
                job()
            except Exception:
                self.wrong.append(traceback.format_exc())
                return
            with self.lock:
                self.done += 1

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive(), "a call never returned"
        assert not self.wrong, "\n".join(self.wrong)


class Kills:
    """Who was killed, each process once: by its number and the time it started."""

    def __init__(self) -> None:
        self.victims: set[tuple[int, int]] = set()

    def kill(self, pid: int) -> None:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            started = start_time(pid)  # of the process that the handle is for, or it is gone
            if started is not None and (pid, started) not in self.victims:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                self.victims.add((pid, started))
        except ProcessLookupError:
            pass
        finally:
            os.close(handle)


Pause = Callable[[Load, random.Random], None]


def kill_enough(
    load: Load, pause: Pause, victims: Callable[[], list[int]], is_done: Callable[[], bool] = lambda: True
) -> None:
    """Kills one of victims() after each pause: KILLS different processes, up to four times as many until is_done()."""
    kills, generator = Kills(), random.Random(SEED)
    while not load.wrong and len(kills.victims) < (KILLS if is_done() else 4 * KILLS):
        pause(load, generator)
        before, latest = len(kills.victims), time.monotonic() + 60
        while len(kills.victims) == before and not load.wrong:
            if alive := victims():
                kills.kill(generator.choice(alive))
            assert time.monotonic() < latest, f"after {before} kills there is nobody left to kill"
            time.sleep(0.001)


def up_to(seconds: float) -> Pause:
    return lambda _, generator: time.sleep(generator.uniform(0.0, seconds))


def held_by(daemon: Daemon) -> Counter[str]:
    assert daemon.process is not None
    cache = daemon.folder / "cache"
    return footprint(daemon.process.pid, cache) + files(daemon.folder, cache / "kernels")


def held_with(daemon: Daemon, refresh: Callable[[], object] = lambda: None, **processes: int) -> Counter[str]:
    """What the daemon holds once it has so many processes of these kinds."""
    daemon.toolchain.ListToolchains(toolchain_pb2.ListToolchainsRequest(), timeout=60)  # once it has looked at them
    wanted = {f"process {role.replace('executor', 'trun-executor')}": count for role, count in processes.items()}
    held: Counter[str] = Counter()

    def ready() -> bool:
        nonlocal held
        refresh()
        time.sleep(0.05)
        held = held_by(daemon)
        # A worker removes the files of a request after its answer: they are no part of what is held.
        is_idle = "file cache/scratch/worker-*/request" not in held
        return is_idle and all(held[role] == count for role, count in wanted.items())

    wait_until(ready, f"{wanted}", timeout=60)
    return held


def expect_held(daemon: Daemon, before: Counter[str], refresh: Callable[[], object] = lambda: None) -> None:
    """Fails with what is held beyond `before`, or no longer, once everything that was killed is replaced."""
    deadline = time.monotonic() + 20
    while (now := held_by(daemon)) != before:
        assert time.monotonic() < deadline, difference(before, now)
        refresh()
        time.sleep(0.05)


def ptx_digest(kernel: Any) -> str:
    return {a.level: a.digest for a in kernel.artifacts}[6]


def test_executors_killed_at_random_times(daemon: Daemon) -> None:
    without = held_with(daemon, executor=DEVICES)
    workers = [Launching(daemon, seed) for seed in (1, 2)]
    for worker in workers:
        worker.step()
    before = held_with(daemon, executor=DEVICES + len(workers))
    with Load(*(w.step for w in workers)) as load:
        kill_enough(load, up_to(0.06), lambda: [w.session.info().executor_pid for w in workers])
    lost = sum(w.lost for w in workers)
    for worker in workers:
        worker.step()
        worker.session.synchronize()
    print(f"{load.done} launches, {lost} of them lost to a kill")
    assert load.done - lost > KILLS // 2, "hardly a launch came through"
    assert lost > 0, "no kill hit a launch"
    expect_held(daemon, before)
    for worker in workers:
        worker.session.close()
    expect_held(daemon, without)


def test_spare_executors_killed_at_random_times(daemon: Daemon) -> None:
    """Those that no session has yet, while sessions are opened and take them."""
    before = held_with(daemon, executor=DEVICES)
    taken: set[int] = set()
    lost = [0, 0]
    devices = itertools.cycle(range(DEVICES))

    def open_and_launch() -> None:
        try:
            session = daemon.open_session(device=f"emulator:{next(devices)}")
        except CallError as error:  # none was left, and the one that was being started for it was killed
            assert error.code is grpc.StatusCode.UNAVAILABLE and "did not start" in error.message, str(error)
            lost[0] += 1
            return
        taken.add(session.info().executor_pid)
        try:
            check_a_launch(session)
        except CallError as error:  # killed while it was handed over, and perhaps the one that followed it too
            followed = error.code is grpc.StatusCode.UNAVAILABLE and "did not start" in error.message
            assert error.reason == "EXECUTOR_LOST" or followed, str(error)
            lost[1] += 1
        session.close()

    def spares() -> list[int]:
        return [pid for pid, command in daemon.children().items() if "trun-executor" in command and pid not in taken]

    with Load(open_and_launch, open_and_launch) as load:
        kill_enough(load, up_to(0.06), spares)
    print(f"{load.done} sessions, {lost[0]} of them not opened and {lost[1]} without their first launch for a kill")
    assert load.done - sum(lost) > KILLS // 2, "hardly a session could be used"
    # One that died unseen is replaced when it is wanted; without a session its canary tells, every 30 s.
    expect_held(daemon, before, lambda: [open_and_launch() for _ in range(DEVICES)])


class Launching:
    """A session that launches and checks; a launch lost to a kill is the only excuse."""

    def __init__(self, daemon: Daemon, seed: int) -> None:
        self.session = daemon.open_session()
        self.data = np.random.default_rng(seed).integers(0, 1 << 30, 4096, dtype=np.int32)
        self.kept = self.session.tensor(self.data)
        self.out = self.session.allocate("int32", 64)
        self.kernel = self.session.compile(kernels.STORE, "ptx", metadata_json=kernels.metadata("store")).kernel
        self.skip = 0
        self.lost = 0

    def step(self) -> None:
        self.skip = (self.skip + 1) % 32
        expected = np.zeros(64, dtype=np.int32)
        expected[:31] = np.arange(31)
        expected[31 + self.skip] = 31
        try:
            self.session.write(self.out.tensor, bytes(256))
            self.session.launch(self.kernel, (1,), self.out, self.skip)
            got = np.frombuffer(self.session.read(self.out.tensor), dtype=np.int32)
        except CallError as error:
            assert error.reason in ("EXECUTOR_LOST", "CONTEXT_LOST"), str(error)
            self.lost += 1
            return
        assert (got == expected).all(), f"wrong result with skip {self.skip}: {got.tolist()}"
        assert self.session.read(self.kept.tensor) == self.data.tobytes(), "a tensor nobody wrote to has changed"


class Compiling:
    """Compiles one kernel again and again, past the cache; a compile lost to a kill is the only excuse."""

    def __init__(self, daemon: Daemon, kernel: Any, level: str) -> None:
        self.session = daemon.open_session()
        self.kernel, self.level = kernel, level
        self.right = ptx_digest(self.session.compile(kernel, level))
        self.lock = threading.Lock()
        self.lost = 0

    def step(self) -> None:
        try:
            made = self.again()
        except CallError as error:
            assert error.reason == "WORKER_LOST", str(error)
            with self.lock:
                self.lost += 1
            return
        assert made == self.right, "the same compile gave another PTX"

    def again(self) -> str:
        return ptx_digest(self.session.compile(self.kernel, self.level, recompile=True))

    def twice_at_once(self) -> None:
        """Needs both workers of a kind: one that died unseen, while it was idle, is replaced."""
        load = Load(self.step)
        self.step()
        load.stop()


def kill_under_load(
    daemon: Daemon, compiling: Compiling, pause: Pause, victims: Callable[[], list[int]], **processes: int
) -> None:
    """Kills KILLS of victims() while two threads compile; then all must be as before."""
    before = held_with(daemon, compiling.twice_at_once, executor=DEVICES + 1, **processes)
    with Load(compiling.step, compiling.step) as load:
        # On a loaded machine workers take as long to start as they are left alone: there it takes more kills.
        kill_enough(load, pause, victims, lambda: load.done - compiling.lost > KILLS // 4)
    print(f"{load.done} compiles, {compiling.lost} of them lost to a kill")
    assert load.done - compiling.lost > KILLS // 4, "hardly a compile came through"
    assert compiling.again() == compiling.right
    expect_held(daemon, before, compiling.twice_at_once)
    compiling.session.close()


def test_workers_killed_at_random_times(daemon: Daemon) -> None:
    compiling = Compiling(daemon, kernels.example("vector_add.ttir"), "ttir")

    def workers() -> list[int]:
        return [pid for pid, command in daemon.children().items() if "trun_worker" in command]

    kill_under_load(daemon, compiling, up_to(0.3), workers, trun_worker=2)
    assert compiling.lost > 0, "no kill hit a compile"


def zygotes(daemon: Daemon) -> list[int]:
    assert daemon.process is not None
    return [pid for pid, command in direct_children(daemon.process.pid).items() if "trun_frontend" in command]


def now_or_after_a_compile(compiling: Compiling) -> Pause:
    """A zygote takes longer to start than to lower: between two kills something must get through, or have had time to.

    A source is lowered again where its front end was killed, a few times: a call is lost to kills in a row only.
    """

    def pause(load: Load, generator: random.Random) -> None:
        if generator.random() < 0.5:
            return
        finished, latest = load.done - compiling.lost, time.monotonic() + 2
        while load.done - compiling.lost == finished and not load.wrong and time.monotonic() < latest:
            time.sleep(0.005)
        time.sleep(generator.uniform(0.0, 0.05))

    return pause


def test_zygotes_of_front_ends_killed_at_random_times(daemon: Daemon) -> None:
    compiling = Compiling(daemon, kernels.SOURCE_BUNDLE, "python")
    pause = now_or_after_a_compile(compiling)
    kill_under_load(daemon, compiling, pause, lambda: zygotes(daemon), trun_frontend=2, trun_worker=2)


def test_children_of_front_ends_killed_at_random_times(daemon: Daemon) -> None:
    """Those that run a client's source: of all that a zygote forks they alone are confined."""
    compiling = Compiling(daemon, kernels.SOURCE_BUNDLE, "python")

    def confined(pid: int) -> bool:
        try:
            return "\nSeccomp:\t2\n" in Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return False

    def children() -> list[int]:
        return [child for zygote in zygotes(daemon) for child in direct_children(zygote) if confined(child)]

    pause = now_or_after_a_compile(compiling)
    kill_under_load(daemon, compiling, pause, children, trun_frontend=2, trun_worker=2)


# Three clients at a time, each a process that works until it is killed; one that ends otherwise ends them all.
CLIENTS = """
import os, sys
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
import kernels
import numpy as np
from daemon import Daemon, Session
from google.protobuf.duration_pb2 import Duration

def work():
    daemon = Daemon(Path(sys.argv[3]), Path(), Path())
    daemon.connect()
    while True:
        session = Session(daemon, lease=Duration(seconds=1))
        held = session.tensor(np.full(1 << 18, 7, np.int32))
        kernel = session.compile(kernels.STORE, "ptx", metadata_json=kernels.metadata("store")).kernel
        for _ in range(8):
            session.launch(kernel, (1,), held, 0, wait=False)
        got = np.frombuffer(session.read(held.tensor), np.int32)
        if got[:32].tolist() != list(range(32)) or set(got[32:]) != {7}:
            raise SystemExit("a wrong result")
        session.close()

while True:
    for _ in range(3 - len(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())):
        if os.fork() == 0:
            work()
    pid, status = os.wait()
    if os.waitstatus_to_exitcode(status) != -9:
        raise SystemExit(f"a client ended by itself: {status}")
"""


def test_clients_killed_at_random_times(daemon: Daemon) -> None:
    other = Launching(daemon, 1)
    before = held_with(daemon, executor=DEVICES + 1)
    paths = [str(Path(__file__).parent), str(daemon.build / "python-stubs"), str(daemon.folder)]
    parent = subprocess.Popen([sys.executable, "-c", CLIENTS, *paths], start_new_session=True)
    try:
        with Load(other.step) as load:
            kill_enough(load, up_to(0.06), lambda: list(direct_children(parent.pid)))
        assert parent.poll() is None, "a client failed"
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.wait()
    assert load.done > 0 and other.lost == 0, "another session lost a launch"
    expect_held(daemon, before)  # their leases ran out
    other.session.close()


@pytest.fixture
def orphans() -> Iterator[Callable[[], dict[int, str]]]:
    """What processes that are dead have left behind: they become children of this process, whoever started them."""
    libc, adopt = ctypes.CDLL(None, use_errno=True), 36  # PR_SET_CHILD_SUBREAPER
    assert libc.prctl(adopt, 1, 0, 0, 0) == 0
    mine = set(direct_children(os.getpid()))
    yield lambda: {pid: command for pid, command in direct_children(os.getpid()).items() if pid not in mine}
    libc.prctl(adopt, 0, 0, 0, 0)


def test_daemons_killed_at_random_times_lose_no_finished_entry(
    tmp_path: Path, orphans: Callable[[], dict[int, str]]
) -> None:
    generator = random.Random(SEED)
    text = kernels.example("vector_add.ttir")
    finished: dict[int, str] = {}
    first: Counter[str] = Counter()
    nonce = [0]
    lock = threading.Lock()
    checked = 0
    for _ in range(KILLS):
        daemon = Daemon(tmp_path, BUILD, TOOLCHAINS)
        daemon.start()
        first = first or held_with(daemon, executor=DEVICES)
        session = daemon.open_session()
        for number in generator.sample(sorted(finished), min(8, len(finished))):
            kernel = session.compile(renamed(text, number), "ttir")
            assert kernel.cached, f"finished entry {number} was lost"
            assert ptx_digest(kernel) == finished[number], f"entry {number} has changed"
            checked += 1
        check_a_launch(session)

        def compile_new(session: Session = session) -> None:
            with lock:
                nonce[0] += 1
                number = nonce[0]
            try:
                kernel = session.compile(renamed(text, number), "ttir")
            except CallError as error:
                # The daemon is dead or dying; nothing was promised for this entry.
                assert error.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED), str(error)
                time.sleep(0.01)
                return
            with lock:
                finished[number] = ptx_digest(kernel)

        load = Load(compile_new, compile_new)
        # In the middle of the first compile, or some time after a few have finished.
        enough, latest = generator.randrange(4), time.monotonic() + 10
        while load.done < enough and not load.wrong and time.monotonic() < latest:
            time.sleep(0.002)
        time.sleep(generator.uniform(0.0, 0.15))
        daemon.kill()
        load.stop()
        daemon.disconnect()
        wait_until(lambda: not orphans(), "the end of the killed daemon's processes")
    assert len(finished) > KILLS // 2
    print(f"{KILLS} daemons killed, {len(finished)} entries finished, {checked} looked up again")
    daemon = Daemon(tmp_path, BUILD, TOOLCHAINS)
    daemon.start()
    expect_held(daemon, first)
    session = daemon.open_session()
    for number, digest in finished.items():
        kernel = session.compile(renamed(text, number), "ttir")
        assert kernel.cached and ptx_digest(kernel) == digest, f"finished entry {number} was lost or changed"
    session.close()
    assert daemon.statistics().healed == 0, "a kill left a bad blob behind"
    assert daemon.stop() == 0


def renamed(text: str, number: int) -> str:
    """Another kernel from the first stage to the last: files that differ in a comment share all but the first."""
    return text.replace("@vector_add(", f"@vector_add_{number}(")


def check_a_launch(session: Session) -> None:
    kernel = session.compile(kernels.STORE, "ptx", metadata_json=kernels.metadata("store")).kernel
    out = session.allocate("int32", 64)
    session.launch(kernel, (1,), out, 0)
    assert np.frombuffer(session.read(out.tensor), dtype=np.int32)[:32].tolist() == list(range(32))
