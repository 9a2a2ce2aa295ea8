"""Fixtures of the tests on a device: a daemon, a session on the device, one on the emulator. See box.py."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "integration")]

from box import DEVICE, ROWS, Box, find_client  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "gpu: needs the device of TRUN_CONFORMANCE_DEVICE, cuda:0")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("gpu")


@pytest.fixture(scope="session")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    client = find_client()
    if not client:
        pytest.skip("no trun-client in bin/, TRUN_BUILD_DIR or PATH")
    folder = tmp_path_factory.mktemp("gpu")
    folder.chmod(0o700)
    made = Box(client, folder)
    try:
        reason = made.start()
        if reason:
            pytest.skip(reason)
        if importlib.util.find_spec("trun.session") is None:
            pytest.fail("the trun package is not installed: pip install python/trun-*.whl")
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="session")
def on_device(box: Box) -> Iterator[Any]:
    import trun

    with trun.connect(box.address, DEVICE) as session:
        yield session


@pytest.fixture(scope="session")
def on_emulator(box: Box) -> Iterator[Any]:
    import trun

    with trun.connect(box.address, box.emulator) as session:
        yield session


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not ROWS:
        return
    terminalreporter.section(f"{DEVICE} against the emulator")
    width = max(len(name) for name, _, _ in ROWS) + 2
    for name, level, verdict in ROWS:
        terminalreporter.write_line(f"{name:<{width}}{level:<7}{verdict}")
