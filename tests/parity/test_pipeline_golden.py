"""Whole runs against the original's: windows, tokens, and the sound of every level (docs/upstream.md, Windows).

Levels run from the top down. Within a level windows are the outer loop and parts of the batch the inner one, which is
`sample_level`'s own order, so a generator that is seeded once, right before, gives the original's tokens.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from jukebox_core.audio.files import read_audio
from jukebox_core.families.jukebox.conditioning.labels import window_row
from jukebox_core.families.jukebox.sampling.config import LevelSampling
from jukebox_core.sampling.noise import GeneratorNoise
from jukebox_core.tokens.plan import append_window, plan_windows
from tests.helpers.golden import golden_files
from tests.helpers.models.golden_priors import FILES, close, need, read_prior, read_vqvae, song_labels
from tests.helpers.models.level_oracle import sample_level

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from jukebox_core.families.jukebox.model.prior import Prior
    from jukebox_core.tokens.plan import Window

AUDIO_ATOL = 1e-4  # docs/upstream.md, Tolerances


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "run" in metafunc.fixturenames:
        stories = golden_files(metafunc.config, "pipeline_*/pipeline.json")
        runs = [(path.partition("/")[0], mode) for path, text in stories.items() for mode in json.loads(text)["runs"]]
        metafunc.parametrize("run", runs, indirect=True, ids=["-".join(names) for names in runs])


@dataclass(frozen=True)
class Call:
    """One part of the batch that is sampled in one window, as the original's list of windows records it."""

    level: int
    n: int
    z_len: int
    length: int
    y: list[list[int]]


@dataclass(frozen=True)
class Run:
    """One run of the original, and the calls that ours makes."""

    golden: Path
    pipeline: str
    mode: str
    story: dict[str, Any]
    arrays: dict[str, Tensor]
    calls: list[Call] = field(default_factory=list)

    @property
    def record(self) -> dict[str, Any]:
        """The record of this run alone."""
        record: dict[str, Any] = self.story["runs"][self.mode]
        return record

    @property
    def levels(self) -> range:
        return range(len(self.story["sampling_kwargs"]))

    @property
    def hops(self) -> tuple[int, ...]:
        return read_vqvae(self.golden).config.hops

    def recorded(self, name: str) -> dict[int, Tensor]:
        """The recorded arrays `name` of this run, by level."""
        found = {level: self.arrays.get(f"{self.mode}.{name}{level}") for level in self.levels}
        return {level: array for level, array in found.items() if array is not None}

    def prior(self, level: int) -> Prior:
        top = level == self.levels[-1]
        return read_prior(self.golden, self.pipeline.removeprefix("pipeline_") if top else f"up{level}")

    def prompt(self) -> Tensor:
        """Sound of the prompts, [songs, time]: files are repeated in order, one for each song."""
        names, rate = self.record["audio_files"], self.story["sr"]
        paths = [need(self.golden / self.pipeline / names[i % len(names)]) for i in range(self.story["n_samples"])]
        sounds = [read_audio(path, rate=rate, seconds=self.record["duration"] / rate) for path in paths]
        return torch.from_numpy(np.stack(sounds))

    def start(self) -> dict[int, Tensor]:
        """The initial tokens of the run, by level: an earlier run's, a prompt's, or none."""
        if "audio_files" in self.record:
            return dict(enumerate(read_vqvae(self.golden).encode(self.prompt())))
        none = torch.zeros(self.story["n_samples"], 0, dtype=torch.int64)
        return dict.fromkeys(self.levels, none) | self.recorded("zin_l")

    def windows(self, level: int, have: int) -> list[Window]:
        if self.mode.startswith("upsample") and level == self.levels[-1]:
            return []  # the top level stays as it was loaded
        context, total = self.prior(level).config.context, self.story["sample_length"] // self.hops[level]
        if total < context:  # that many new tokens, in addition to existing ones
            return [append_window(have, total, context)]
        return plan_windows(total, context, int(self.story["hop_fraction"][level] * context), have)

    def sample(self, level: int, tokens: Tensor, above: Tensor | None) -> Tensor:
        prior, how = self.prior(level), self.story["sampling_kwargs"][level]
        rows = self.arrays[f"labels_y_level{level}"].tolist()
        songs = [song_labels(prior, row, meta["lyrics"]) for row, meta in zip(rows, self.story["metas"], strict=True)]
        length = prior.config.context * self.hops[level]

        def labels(window: Window, part: slice) -> Tensor:
            y = [
                [*window_row(song, prior.config, sample_length=length, start=window.start).row] for song in songs[part]
            ]
            self.calls.append(Call(level, len(y), window.known - window.start, window.stop - window.start, y))
            return torch.tensor(y)

        return sample_level(
            prior,
            self.windows(level, tokens.shape[1]),
            tokens,
            labels=labels,
            above_BT=above,
            factor=1 if above is None else self.hops[level + 1] // self.hops[level],
            sampling=LevelSampling(temperature=how["temp"], top_k=how.get("top_k"), top_p=how.get("top_p")),
            noise=lambda part: GeneratorNoise(part.stop - part.start),
            batch_size=how["max_batch_size"],
            prefill_chunk=how["chunk_size"],
        )


@pytest.fixture
def run(request: pytest.FixtureRequest, golden: Path) -> Run:
    pipeline, mode = request.param
    if pipeline.removeprefix("pipeline_") not in FILES:
        pytest.skip(f"{pipeline} has a top prior of its own; known are {', '.join(FILES)}")
    story = json.loads(need(golden / pipeline / "pipeline.json").read_text())
    if any(how.get("fp16") for how in story["sampling_kwargs"]):
        pytest.skip(f"{pipeline} was sampled in half precision, whose tokens are not comparable")
    with np.load(need(golden / pipeline / "io.npz")) as arrays:
        found = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    whole = {name: array if array.is_floating_point() else array.long() for name, array in found.items()}
    return Run(golden, pipeline, mode, story, whole)


@pytest.mark.slow
@torch.no_grad()
def test_every_token_and_sound(run: Run) -> None:
    expected, sounds = run.recorded("zs_l"), run.recorded("x_level")
    assert expected.keys() == set(run.levels)
    assert sounds
    codes = run.start()
    torch.manual_seed(run.record["seed"])
    above = None
    for level in reversed(run.levels):
        above = codes[level] = run.sample(level, codes[level], above)
        assert codes[level].equal(expected[level]), f"level {level}: {_first_difference(codes[level], expected[level])}"
    _same_calls(run)
    for level, sound in sounds.items():
        found = read_vqvae(run.golden).decode(codes[level], level)
        close(found, sound[..., 0], f"sound of level {level}", atol=AUDIO_ATOL, rtol=0.0)


def _first_difference(found: Tensor, expected: Tensor) -> str:
    if found.shape != expected.shape:
        return f"shape {[*found.shape]}, not {[*expected.shape]}"
    song, position = (found != expected).nonzero()[0].tolist()
    return f"song {song} differs from position {position}"


def _same_calls(run: Run) -> None:
    """Windows, parts and label columns; of the columns, the original kept as many as its record shows."""
    recorded = run.record.get("windows")
    if recorded is None:
        return
    assert len(run.calls) == len(recorded)
    for call, theirs in zip(run.calls, recorded, strict=True):
        how = run.story["sampling_kwargs"][call.level]
        assert (call.level, call.n, call.z_len) == (theirs["level"], theirs["n"], theirs["z_len"])
        assert theirs["sample_tokens"] in (None, call.length)
        assert (how["temp"], how["chunk_size"]) == (theirs["temp"], theirs["chunk_size"])
        assert [row[: len(kept)] for row, kept in zip(call.y, theirs["y"], strict=True)] == theirs["y"]


def test_initial_tokens_of_a_run(run: Run) -> None:
    """Prompts are read as recorded; an earlier run's tokens are those it made, cut where the run says."""
    if "audio_files" in run.record:
        assert run.prompt().equal(run.arrays[f"{run.mode}.x_prompt"][..., 0])
    source, duration = run.record.get("source", "").partition(" ")[0], run.record.get("duration")
    for level, codes in run.start().items():
        assert codes.equal(run.recorded("zs_l")[level][:, : codes.shape[1]])
        if source and codes.shape[1]:
            assert codes.equal(run.arrays[f"{source}.zs_l{level}"][:, : codes.shape[1]])
        if duration is not None:
            assert codes.shape[1] == duration // run.hops[level]
