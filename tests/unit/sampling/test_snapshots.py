"""Sampling from a restored cache is bit for bit the same, and a snapshot that does not fit is never used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from jukebox_core.errors import ConfigError
from jukebox_core.families.jukebox.sampling.config import LevelSampling
from jukebox_core.families.jukebox.sampling.decoder import WindowDecoder, draw_codes
from jukebox_core.families.jukebox.sampling.prior_model import Prefix
from jukebox_core.sampling import snapshots
from jukebox_core.sampling.noise import CounterNoise
from jukebox_core.sampling.snapshots import Snapshots
from jukebox_core.tokens.graph import make_node
from jukebox_core.tokens.plan import Window
from tests.helpers.models.tiny_priors import CONFIGS, tiny_codes, tiny_condition, tiny_prior

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor

KNOWN, COUNT, START = 5, 20, 100
NOTHING = [Prefix(np.zeros(1, np.int32))]


def progress(drawn: Tensor) -> list[Prefix]:
    """The progress of a window: the tokens drawn of each song."""
    return [Prefix(row) for row in drawn.numpy().astype(np.int32)]


def node(sample: int):  # type: ignore[no-untyped-def]
    window = Window(START, START + KNOWN, START + KNOWN + COUNT)
    return make_node(level=1, sample=sample, window=window, inputs={})


def draw(decoder: WindowDecoder, kind: str, forced: Tensor | None, block: int = 1) -> Iterator[Tensor]:
    prior = tiny_prior(kind)
    noise = CounterNoise(5, prior.config.level, [0, 1])
    known = tiny_codes(prior)[:, :KNOWN]
    return draw_codes(
        decoder, known, COUNT, LevelSampling(), noise, start=START, forced_BF=forced, prefill_chunk=3, flush=block
    )


@torch.inference_mode()  # as the sampler opens a window
def fresh(kind: str) -> WindowDecoder:
    prior = tiny_prior(kind)
    return WindowDecoder(prior, tiny_condition(prior))


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("at", [1, 7, 19])
def test_a_restored_window_goes_on_bit_for_bit(kind: str, at: int, tmp_path: Path) -> None:
    whole = torch.cat([*draw(fresh(kind), kind, None)], dim=1)
    first = fresh(kind)
    blocks = draw(first, kind, None)
    drawn = torch.cat([next(blocks) for _ in range(at)], dim=1)
    kept = Snapshots(str(tmp_path), [node(0), node(1)], share=0.5)
    kept.write(first.save(), progress(drawn))
    forced = whole[:, : min(at + 2, COUNT)]  # two more tokens were stored after the snapshot
    saved = kept.read(progress(forced))
    assert saved is not None
    second = fresh(kind)
    second.restore(saved)
    rest = torch.cat([forced, *draw(second, kind, forced)], dim=1)
    assert rest.equal(whole)
    full = fresh(kind)
    list(draw(full, kind, None))
    for name, tensor in full.save().items():
        assert second.save()[name].equal(tensor), name


def test_a_snapshot_that_does_not_fit_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = fresh("top")
    drawn = torch.cat([block for block, _ in zip(draw(decoder, "top", None), range(6), strict=False)], dim=1)
    tokens = drawn.numpy().astype(np.int32)
    whole = progress(drawn)
    kept = Snapshots(str(tmp_path), [node(0), node(1)], share=0.5)
    kept.write(decoder.save(), whole)
    assert kept.read(whole) is not None
    assert kept.read(progress(drawn[:, :5])) is None  # fewer tokens than it has read
    assert kept.read([Prefix(row) for row in np.where(tokens == tokens[0, 0], tokens + 1, tokens)]) is None
    assert Snapshots(str(tmp_path), [node(0)], share=0.5).read(whole[:1]) is None
    data = bytearray(kept.path.read_bytes())
    data[-3] ^= 1
    kept.path.write_bytes(data)
    assert kept.read(whole) is None
    kept.write(decoder.save(), whole)
    monkeypatch.setattr(torch, "__version__", "0.0.1")
    assert kept.read(whole) is None
    kept.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_state_of_another_batch_is_refused() -> None:
    decoder = fresh("top")
    saved = decoder.save()
    with pytest.raises(ConfigError, match="another prior or batch"):
        decoder.restore({**saved, "input": saved["input"][:1]})


def test_writing_takes_no_more_than_its_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(snapshots.time, "monotonic", lambda: now)
    monkeypatch.setattr(Snapshots, "last_cost", 0.0)
    kept = Snapshots(str(tmp_path), [node(0)], share=0.01)
    assert not kept.due(10.0)
    now = 11.0
    assert kept.due(10.0)
    real = snapshots.save_file

    def slow(*args: object) -> None:
        nonlocal now
        now += 2.0
        real(*args)

    monkeypatch.setattr(snapshots, "save_file", slow)
    kept.write({"x": torch.zeros(3)}, NOTHING)
    now += 199.0
    assert not kept.due(10.0)
    now += 2.0
    assert kept.due(10.0)
    assert not Snapshots(str(tmp_path), [node(1)], share=0.01).due(10.0), "the next window waits as long"


def test_no_folder_no_snapshots() -> None:
    kept = Snapshots(None, [node(0)], share=0.01)
    assert not kept.due(0.0)
    assert kept.read(NOTHING) is None
    kept.remove()
