"""Devices are claimed by processes until they end, and shared out among threads."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from stages import stopping
from stages.sampling import devices
from stages.sampling.devices import own_device
from tests.helpers.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TWO = ("cuda:0", "cuda:1")
HOLDER = """
import sys
from stages.sampling.devices import own_device
with own_device(("cuda:0", "cuda:1"), "cpu") as device:
    print(device, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(devices, "_POLL_SECONDS", 0.02)
    yield
    devices.release_devices()
    stopping.clear_request()


def holder() -> subprocess.Popen[str]:
    """Another process that holds a device until its input ends."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_without_devices_to_claim_all_share_one() -> None:
    with own_device((), "cpu") as first, own_device((), "cpu") as second:
        assert (first, second) == ("cpu", "cpu")


def test_a_worker_keeps_the_device_it_had() -> None:
    for _ in range(3):
        with own_device(TWO, "cpu") as device:
            assert device == "cuda:0"


def test_threads_get_a_device_each_and_the_third_waits() -> None:
    got: list[str] = []

    def third() -> None:
        with own_device(TWO, "cpu") as device:
            got.append(device)

    with own_device(TWO, "cpu") as first:
        with own_device(TWO, "cpu") as second:
            assert {first, second} == set(TWO)
            waiting = threading.Thread(target=third)
            waiting.start()
            waiting.join(0.2)
            assert waiting.is_alive()
        waiting.join(5)
    assert got == [second]


def test_another_process_gets_another_device_and_a_killed_one_gives_its_own_back() -> None:
    with holder() as other:
        assert other.stdout is not None
        assert other.stdout.readline().strip() == "cuda:0"
        with own_device(TWO, "cpu") as mine:
            assert mine == "cuda:1"
        other.kill()
        other.wait()
    devices.release_devices()
    with own_device(TWO, "cpu") as mine:
        assert mine == "cuda:0"


def test_waiting_for_a_device_can_be_stopped() -> None:
    with own_device(("cuda:0",), "cpu"):
        stopping.request_stop()
        with pytest.raises(stopping.StoppedError), own_device(("cuda:0",), "cpu"):
            pass
