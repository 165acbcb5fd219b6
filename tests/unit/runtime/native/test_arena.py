"""The arena of packed weights, and its promotion to huge pages."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from jukebox_core.runtime.native.matrices import Arena

SIZE = 16 * 2**20


def huge_bytes() -> int:
    """Returns the bytes of this process that are in huge pages."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("AnonHugePages"))


def promoting() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "huge pages"]


def test_promotion_to_huge_pages_keeps_the_contents() -> None:
    arena = Arena(SIZE, huge_pages=False)
    weight = arena.allocate(SIZE).view(torch.int32)
    weight.copy_(torch.arange(len(weight), dtype=torch.int32))
    arena.promote_to_huge_pages()
    for thread in promoting():
        thread.join(timeout=30)
        assert not thread.is_alive()
    assert weight.equal(torch.arange(len(weight), dtype=torch.int32))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="huge pages are used on Linux only")
def test_huge_pages_are_used_where_the_system_has_them() -> None:
    arena = Arena(SIZE, huge_pages=False)
    arena.allocate(SIZE).fill_(1)
    before = huge_bytes()
    if not arena.collapse(0):
        pytest.skip("this system has no MADV_COLLAPSE (Linux 6.1), or no huge page is free")
    assert huge_bytes() >= before + 2**21
    assert not arena.collapse(SIZE // 2**21)  # one past the last page


def test_the_thread_ends_with_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Arena, "collapse", lambda *_: True)
    arena = Arena(SIZE, huge_pages=False)
    arena.promote_to_huge_pages()
    (thread,) = promoting()
    time.sleep(0.01)
    assert thread.is_alive()
    del arena
    thread.join(timeout=30)
    assert not thread.is_alive()
