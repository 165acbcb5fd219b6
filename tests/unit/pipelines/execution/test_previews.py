"""Previews of windows that are not full yet: heard earlier, and no token is another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pipelines.execution import previews as previews_module
from pipelines.execution.previews import Previews
from pipelines.settings.compose import GENERATE, compose
from tests.helpers.plain_flows import make_plainly

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

pytestmark = pytest.mark.slow


def made(folder: Path, *overrides: str) -> dict[str, Any]:
    """The manifest of a sketch of two songs by mini."""
    settings = compose(
        GENERATE,
        [
            f"storage.root={folder}", "model=mini", "sampling=top_only", "sampling.n_samples=2", "seconds=4",
            "storage.flush_tokens=128", "output.report=false", "hardware.threads=1", "runner.preview_seconds=0",
            *overrides,
        ],
    )  # fmt: skip
    return make_plainly(settings).manifest()


def test_a_song_is_heard_before_its_window_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reached: list[tuple[int, int, bool]] = []
    write = Previews._write

    def noted(self: Previews, sample: int, there: list[int], partial: Collection[str]) -> None:
        write(self, sample, there, partial)
        reached.append((sample, there[-1], bool(partial)))

    monkeypatch.setattr(Previews, "_write", noted)
    early = made(tmp_path / "early", "runner.preview_partial=true")
    grown = [tokens for sample, tokens, partial in reached if sample == 0 and partial]
    assert grown == sorted(grown)
    assert 0 < grown[0] < 300
    reached.clear()
    usual = made(tmp_path / "usual")
    assert not any(partial for *_, partial in reached)
    assert [each["sha256"] for each in early["audio"]] == [each["sha256"] for each in usual["audio"]]


def test_without_memory_for_it_the_song_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Collection[str]] = []

    def fails(_: Previews, __: int, ___: list[int], partial: Collection[str]) -> None:
        calls.append(partial)
        if partial:
            raise MemoryError

    monkeypatch.setattr(previews_module.Previews, "_write", fails)
    assert made(tmp_path, "runner.preview_partial=true")["status"] == "finished"
    assert sum(bool(partial) for partial in calls) == 1
