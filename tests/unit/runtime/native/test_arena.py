"""Memory that weights are read into before it lies in large pages."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from jukebox_core.runtime.native.matrices import Arena

SIZE = 16 * 2**20


def large_bytes() -> int:
    """The bytes of this process that lie in large pages."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("AnonHugePages"))


def enlarging() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "large pages"]


def test_what_was_read_stays_while_it_is_brought_into_large_pages() -> None:
    arena = Arena(SIZE, large=False)
    weight = arena.take(SIZE).view(torch.int32)
    weight.copy_(torch.arange(len(weight), dtype=torch.int32))
    arena.enlarge()
    for thread in enlarging():
        thread.join(timeout=30)
        assert not thread.is_alive()
    assert weight.equal(torch.arange(len(weight), dtype=torch.int32))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="large pages are asked for on Linux alone")
def test_large_pages_come_where_the_system_has_them() -> None:
    arena = Arena(SIZE, large=False)
    arena.take(SIZE).fill_(1)
    before = large_bytes()
    if not arena.collapse(0):
        pytest.skip("this system has no MADV_COLLAPSE (Linux 6.1), or no large page is free")
    assert large_bytes() >= before + 2**21
    assert not arena.collapse(SIZE // 2**21)  # there is no page of that number


def test_the_thread_ends_with_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Arena, "collapse", lambda *_: True)
    arena = Arena(SIZE, large=False)
    arena.enlarge()
    (thread,) = enlarging()
    time.sleep(0.01)
    assert thread.is_alive()
    del arena
    thread.join(timeout=30)
    assert not thread.is_alive()
