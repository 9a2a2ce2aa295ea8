"""The same kernel on every device of the box: a session each, all at once, against one reference."""

from __future__ import annotations

import pathlib
import threading

import numpy as np
import trun

KERNELS = pathlib.Path(__file__).resolve().parents[1] / "kernels"


def transpose_on(device: str, x: np.ndarray, results: dict[str, np.ndarray | Exception]) -> None:
    try:
        with trun.connect(device=device) as session:
            transpose = session.load(KERNELS / "transpose.ttir")
            out = np.zeros(x.shape[::-1], x.dtype)
            transpose[trun.cdiv(x.shape[0], 32), trun.cdiv(x.shape[1], 32)](x, out, *x.shape)
            results[device] = out
    except trun.TrunError as error:
        results[device] = error


def main() -> None:
    x = np.random.default_rng(1).standard_normal((70, 45), dtype=np.float32)
    with trun.connect() as session:
        devices = [device for device in session.devices() if not device.unusable_reason]

    results: dict[str, np.ndarray | Exception] = {}
    threads = [threading.Thread(target=transpose_on, args=(device.device, x, results)) for device in devices]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for device in devices:
        got = results[device.device]
        if isinstance(got, Exception):
            raise got
        np.testing.assert_array_equal(got, x.T, err_msg=device.device)
        print(f"{device.device}: {device.name}, {device.target}")
    print("right")


if __name__ == "__main__":
    main()
