"""For any missing windows and shards: each window is sampled once, and after all windows that it reads."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from jukebox_core.families.jukebox.conditioning.labels import SongLabels
from jukebox_core.families.jukebox.sampling.config import SamplingConfig
from jukebox_core.families.jukebox.sampling.song_plan import SongPlan, SongSpec, plan_song
from jukebox_core.models.presets import load_preset
from jukebox_core.sampling.schedule import Order, Schedule, Unit, plan_units, split_songs
from jukebox_core.tokens.graph import Track

MINI = load_preset("mini").config
HOPS = MINI.vqvae.hops
LABELS = SongLabels(artist_id=1, genre_ids=(2,), lyric_tokens=tuple(range(1, 60)), total_length=4_000_000, offset=0)
ORDERS: tuple[Order, ...] = ("by_level", "wavefront")


def make_song(sample: int, seconds: float, known_seconds: float = 0.0, stop_level: int = 0) -> SongPlan:
    length = int(seconds * MINI.vqvae.sample_rate) // HOPS[-1] * HOPS[-1]
    known = min(int(known_seconds * MINI.vqvae.sample_rate), length) // HOPS[-1] * HOPS[-1]
    spec = SongSpec(
        config=MINI,
        weights=["w0", "w1", "w2"],
        sampling=SamplingConfig(stop_level=stop_level),
        dtype="float32",
        sample=sample,
        labels=[LABELS] * 3,
        length=length,
    )
    return plan_song(spec, tuple(Track().extend("p" * 64, known // hop) if known else Track() for hop in HOPS))


def walk(schedule: Schedule, workers: int, choose: st.DataObject | None = None) -> list[Unit]:
    """Runs a schedule with several workers that end in any order; returns its units in order of their start."""
    began: list[Unit] = []
    running: list[Unit] = []
    while True:
        while len(running) < workers and (unit := schedule.take()) is not None:
            assert not unit.needs & schedule.open, "a unit reads windows that are not sealed"
            assert all(not unit.needs & other.keys & schedule.open for other in running)
            began.append(unit)
            running.append(unit)
        if not running:
            return began
        index = choose.draw(st.integers(0, len(running) - 1)) if choose else 0
        schedule.finish(running.pop(index))


@settings(max_examples=40)
@given(
    lengths=st.lists(st.tuples(st.floats(3.0, 12.0), st.sampled_from([0.0, 0.0, 2.0, 4.5])), min_size=1, max_size=5),
    batch_size=st.integers(1, 6),
    shards=st.integers(1, 6),
    workers=st.integers(1, 4),
    order=st.sampled_from(ORDERS),
    data=st.data(),
)
def test_every_window_is_sampled_once_and_after_all_it_reads(
    lengths: list[tuple[float, float]], batch_size: int, shards: int, workers: int, order: Order, data: st.DataObject
) -> None:
    songs = [make_song(sample, seconds, known) for sample, (seconds, known) in enumerate(lengths)]
    units = plan_units(songs, batch_size, shards)
    planned = [node.key for song in songs for node in song.nodes]
    assert sorted(node.key for unit in units for node in unit.nodes) == sorted(planned)
    assert all(len(unit.nodes) <= batch_size and len({n.window for n in unit.nodes}) == 1 for unit in units)
    missing = set(data.draw(st.lists(st.sampled_from(planned), unique=True))) if planned else set()
    for gone in (set(planned), missing):
        schedule = Schedule(units, gone, order)
        began = walk(schedule, workers, data)
        assert not schedule.open
        assert len(schedule) == 0
        sampled = [key for unit in began for key in unit.keys]
        assert len(sampled) == len(set(sampled))
        assert gone <= set(sampled)
        assert all(unit.keys & gone for unit in began), "a unit without anything to do was begun"


@settings(max_examples=20)
@given(count=st.integers(1, 20), batch_size=st.integers(1, 8), shards=st.integers(1, 8))
def test_songs_are_cut_evenly(count: int, batch_size: int, shards: int) -> None:
    song = make_song(0, 3.0, stop_level=2)
    songs = [replace(song, nodes=song.nodes[:sample]) for sample in range(count)]
    groups = split_songs(songs, batch_size, shards)
    sizes = [len(group) for group in groups]
    assert [each for group in groups for each in group] == songs
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= batch_size
    assert len(groups) >= min(shards, count)


@settings(max_examples=20)
@given(seconds=st.floats(3.0, 20.0), songs=st.integers(1, 3), workers=st.integers(1, 3), data=st.data())
def test_by_level_ends_a_level_before_it_begins_the_next(
    seconds: float, songs: int, workers: int, data: st.DataObject
) -> None:
    plans = [make_song(sample, seconds + sample) for sample in range(songs)]
    schedule = Schedule(plan_units(plans, 1), {n.key for p in plans for n in p.nodes}, "by_level")
    levels = [unit.level for unit in walk(schedule, workers, data)]
    assert levels == sorted(levels, reverse=True)


def test_wavefront_makes_final_sound_before_the_top_level_is_done() -> None:
    plan = make_song(0, 20.0)
    began = walk(Schedule(plan_units([plan], 1), {node.key for node in plan.nodes}, "wavefront"), 1)
    first_final = next(index for index, unit in enumerate(began) if unit.level == 0)
    assert [unit.level for unit in began[: first_final + 1]] == [2, 1, 0]
    last_top = max(index for index, unit in enumerate(began) if unit.level == 2)
    assert first_final < last_top


def test_with_one_worker_a_shard_is_finished_before_the_next_begins() -> None:
    plans = [make_song(sample, 6.0) for sample in range(4)]
    schedule = Schedule(plan_units(plans, 2), {n.key for p in plans for n in p.nodes}, "by_level")
    top = [unit.shard for unit in walk(schedule, 1) if unit.level == 2]
    assert top == sorted(top)
