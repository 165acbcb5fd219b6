"""A song's tokens do not depend on the batch it was sampled in, nor on how often sampling was interrupted."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from jukebox_core.base.hashing import digest, digest_file
from jukebox_core.families.jukebox.conditioning.labels import SongLabels
from jukebox_core.families.jukebox.sampling import prior_model
from jukebox_core.families.jukebox.sampling.config import SamplingConfig
from jukebox_core.families.jukebox.sampling.decoder import WindowDecoder
from jukebox_core.families.jukebox.sampling.song_plan import SongPlan, SongSpec, plan_song
from jukebox_core.runtime.config import HardwareConfig
from jukebox_core.runtime.oom import BatchSizes
from jukebox_core.sampling import windows
from jukebox_core.sampling.noise import CounterNoise
from jukebox_core.sampling.schedule import plan_units
from jukebox_core.sampling.windows import FlushPolicy
from jukebox_core.store.store import TokenStore
from jukebox_core.tokens.graph import Track
from stages import resident
from stages.handles import FileHandle
from stages.sampling import sample
from tests.helpers.models import zoo

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from jukebox_core.tokens.graph import Take

FLUSH = 16  # tokens
Objects = dict[str, bytes]  # contents of a store, by file name


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each kind's top level, over several windows; and all levels of a song that is shorter than the top's context."""
    if "songs" in metafunc.fixturenames:
        cases = [(kind, stop) for kind in zoo.kinds(metafunc.config) for stop in (2, 0)]
        quick, *others = [pytest.param(case, id=f"{case[0]}-down-to-{case[1]}") for case in cases]
        slow = [pytest.param(*case.values, id=case.id, marks=pytest.mark.slow) for case in others]
        metafunc.parametrize("songs", [quick, *slow], indirect=True)


class Songs:
    """Songs with labels of their own, sampled in one way or another into a store of their own."""

    def __init__(self, golden: Path, kind: str, stop_level: int, folder: Path) -> None:
        self.config = zoo.config(golden, kind)
        files = zoo.files(golden, kind)
        self.weights = {role: FileHandle.of(path, digest_file(path)) for role, path in files.items()}
        self.sampling = SamplingConfig(seed=5, stop_level=stop_level)
        self.folder = folder
        hops = self.config.vqvae.hops
        full = range(stop_level, max(2, stop_level + 1))  # the levels whose context the song fills
        longest = max(self.config.priors[level].context * hops[level] for level in full)
        self.length = (longest // hops[-1] + 5) * hops[-1]  # their last windows are moved back

    def labels(self, song: int) -> list[SongLabels]:
        """The labels of a song, different for each song."""
        lyrics = tuple(1 + (7 * song + 3 * i) % 70 for i in range(90))
        return [
            SongLabels(
                artist_id=1 + song,
                genre_ids=(1 + song,),
                lyric_tokens=lyrics if prior.lyrics else (),
                total_length=60_000 + 1000 * song,
                offset=100 * song,
            )
            for prior in self.config.priors
        ]

    def plan(self, song: int, have: Take | None = None) -> SongPlan:
        spec = SongSpec(
            config=self.config,
            weights=[self.weights[f"level_{level}"].sha256 for level in range(3)],
            sampling=self.sampling,
            dtype="float32",
            sample=song,
            labels=self.labels(song),
            length=self.length,
        )
        return plan_song(spec, have)

    def sample(
        self, store: str, plans: Sequence[SongPlan], batch_size: int = 16, *, snapshots: bool = False
    ) -> Objects:
        """Samples songs as a run does; returns the content of the store afterwards.

        With `snapshots`, tokens and caches are kept at every opportunity.
        """
        job = sample.SamplingJob(
            family="jukebox",
            config=self.config,
            weights=self.weights,
            sampling=self.sampling,
            hardware=HardwareConfig(device="cpu", dtype="float32", batch_size=batch_size, threads=1),
            store=str(self.folder / store),
            policy=FlushPolicy(
                tokens=FLUSH,
                seconds=0.0 if snapshots else 3600.0,
                scratch=str(self.folder / "scratch") if snapshots else None,
                snapshot_share=1e9,
            ),
        )
        for unit in plan_units(plans, batch_size):
            handles = sample.sample_shard(job, unit.nodes)
            assert [(handle.key, handle.sample) for handle in handles] == [(n.key, n.sample) for n in unit.nodes]
        return {path.name: path.read_bytes() for path in (self.folder / store).rglob("*") if path.is_file()}

    def prompt(self, song: int, tokens: int, *stores: str) -> Take:
        """Puts made-up tokens at the beginning of a song's top level into the stores."""
        causes = {"prompt": song}
        codes = np.random.default_rng(song).integers(0, self.config.vqvae.bins, tokens)
        for store in stores:
            TokenStore(self.folder / store).seal(digest(causes), codes, first=0, causes=causes)
        return (Track(), Track(), Track().extend(digest(causes), tokens))


@pytest.fixture
def songs(request: pytest.FixtureRequest, golden: Path, tmp_path: Path) -> Iterator[Songs]:
    torch.set_num_threads(1)
    yield Songs(golden, *request.param, tmp_path)
    resident.release()


def named(plan: SongPlan) -> set[str]:
    """The files that a song's windows are stored in."""
    return {f"{node.key}.safetensors" for node in plan.nodes}


def test_a_song_is_the_same_in_any_batch(songs: Songs) -> None:
    """Files are compared whole: tokens, place and causes."""
    plans = [songs.plan(song) for song in range(4)]
    together = songs.sample("together", plans)
    assert len(together) == sum(len(plan.nodes) for plan in plans)
    assert songs.sample("halves", plans, batch_size=2) == together
    assert songs.sample("alone", [songs.plan(2)]) == {name: together[name] for name in named(plans[2])}


def test_songs_with_prompts_of_other_lengths_are_the_same_in_any_batch(songs: Songs) -> None:
    lengths = [3, songs.length // songs.config.vqvae.hops[-1] - 2, 3]
    plans = [songs.plan(song, songs.prompt(song, n, "together", "alone")) for song, n in enumerate(lengths)]
    together = songs.sample("together", plans)
    for plan in plans:
        alone = songs.sample("alone", [plan])
        assert {name: alone[name] for name in named(plan)} == {name: together[name] for name in named(plan)}


class Kill(BaseException):
    """The process ends here."""


# The method and number of the call that fails, and whether storing still works while the process ends.
ENDS = {"power": ("write_partial", 6, False), "signal": ("write_partial", 3, True), "between seals": ("seal", 2, True)}


@pytest.mark.parametrize("snapshots", [False, True], ids=["stepping again", "restoring"])
@pytest.mark.parametrize("end", ENDS)
def test_a_song_is_the_same_however_often_it_was_interrupted(
    songs: Songs, end: str, snapshots: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: Counter[str] = Counter()
    store, calls = "plain", 0
    method, fatal, still_works = ENDS[end]
    real = getattr(TokenStore, method)

    class CountingNoise(CounterNoise):
        def draw(self, position: int, count: int) -> torch.Tensor:
            drawn[store] += 1
            return super().draw(position, count)

    def failing(self: TokenStore, *given: Any, **named: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == fatal or (calls > fatal and not still_works):
            raise Kill
        real(self, *given, **named)

    restored: list[bool] = []
    restore = WindowDecoder.restore

    def counted(self: WindowDecoder, saved: Any) -> None:
        restored.append(True)
        restore(self, saved)

    monkeypatch.setattr(WindowDecoder, "restore", counted)
    monkeypatch.setattr(prior_model, "CounterNoise", CountingNoise)
    plans = [songs.plan(song) for song in (0, 1)]
    plain = songs.sample(store, plans)
    monkeypatch.setattr(TokenStore, method, failing)
    store = "killed"
    kills, killed = 0, None
    while killed is None:
        calls = 0
        try:
            killed = songs.sample(store, plans, snapshots=snapshots)
        except Kill:
            kills += 1
    assert kills > 1
    assert killed == plain
    assert bool(restored) == snapshots
    # Each kill costs the tokens that were not stored: less than a flush for each song of the batch.
    lost = drawn["killed"] - drawn["plain"]
    assert 0 <= lost <= kills * 2 * FLUSH


def test_out_of_memory_halves_the_batch_and_continues_from_stored_tokens(
    songs: Songs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plans = [songs.plan(song) for song in range(3)]
    plain = songs.sample("plain", plans)
    caplog.set_level("INFO", "jukebox")
    monkeypatch.setattr(windows, "_batch_sizes", BatchSizes())
    sizes: list[int] = []
    steps, predict = 0, WindowDecoder.predict

    def scarce(self: WindowDecoder) -> torch.Tensor:
        nonlocal steps
        steps += 1
        if len(self.state.input_B1W) > 1 and steps > 2 * FLUSH:
            sizes.append(len(self.state.input_B1W))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return predict(self)

    monkeypatch.setattr(WindowDecoder, "predict", scarce)
    assert songs.sample("scarce", plans) == plain
    # Each level finds its batch size once: three songs are too many, then two; its later windows start with one.
    assert sizes == [3, 2] * len({node.level for node in plans[0].nodes})
    assert any("tokens of an interrupted window" in m and ": resumed at " in m for m in caplog.messages)
    assert any("out of memory with a batch of 3; retrying with a batch of 2" in m for m in caplog.messages)
