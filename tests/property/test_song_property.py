"""A song's graph: every token is filled exactly once, and a key changes when and only when a cause changes."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from jukebox_core.families.jukebox.conditioning.labels import SongLabels
from jukebox_core.families.jukebox.sampling.config import LevelSampling, SamplingConfig
from jukebox_core.families.jukebox.sampling.song_plan import SongPlan, SongSpec, plan_song
from jukebox_core.models.presets import load_preset
from jukebox_core.tokens.graph import Track

MINI = load_preset("mini").config
LABELS = SongLabels(artist_id=1, genre_ids=(2,), lyric_tokens=tuple(range(1, 60)), total_length=4_000_000, offset=0)


def spec(seconds: float = 8.0, **changes: object) -> SongSpec:
    hop = MINI.vqvae.hops[-1]
    plain = SongSpec(
        config=MINI,
        weights=["w0", "w1", "w2"],
        sampling=SamplingConfig(seed=3),
        dtype="float32",
        sample=0,
        labels=[LABELS] * 3,
        length=int(seconds * MINI.vqvae.sample_rate) // hop * hop,
    )
    return replace(plain, **changes)


def keys(plan: SongPlan) -> dict[int, list[str]]:
    return {level: [node.key for node in plan.level(level)] for level in range(3)}


@given(seconds=st.floats(3.0, 60.0), have=st.floats(0.0, 20.0), stop=st.integers(0, 2))
def test_every_token_is_filled_exactly_once(seconds: float, have: float, stop: int) -> None:
    song = spec(seconds, sampling=SamplingConfig(stop_level=stop))
    hops = MINI.vqvae.hops
    known = min(int(have * MINI.vqvae.sample_rate), song.length) // hops[-1] * hops[-1]
    prompt = tuple(Track().extend("p" * 64, known // hop) if known else Track() for hop in hops)
    plan = plan_song(song, prompt)
    for level, hop in enumerate(hops):
        total = song.length // hop if level >= stop else known // hop
        assert len(plan.take[level]) == total
        filled = [t for node in plan.level(level) for t in range(node.window.known, node.window.stop)]
        assert filled == list(range(known // hop, total))
        for node in plan.level(level):
            assert sum(s.stop - s.start for s in node.inputs["reads"]) == node.window.known - node.window.start
            if level < 2:
                factor = MINI.upsampling_factor(level)
                above = sum(s.stop - s.start for s in node.inputs["above"])
                assert above * factor == node.window.stop - node.window.start


def test_a_longer_song_keeps_the_windows_it_shares_with_a_shorter_one() -> None:
    short, long = keys(plan_song(spec(8.0))), keys(plan_song(spec(20.0)))
    assert short[2][:-1] == long[2][: len(short[2]) - 1]  # the last one was moved back to fit
    for level in range(2):
        assert len(set(short[level]) & set(long[level])) > len(short[level]) / 2


def test_each_cause_changes_the_keys_below_it_and_no_others() -> None:
    plain = keys(plan_song(spec()))
    sampling = SamplingConfig(seed=3)
    lower = keys(plan_song(spec(weights=["other", "w1", "w2"])))
    assert (lower[2], lower[1]) == (plain[2], plain[1])
    assert not set(lower[0]) & set(plain[0])
    hotter = keys(plan_song(spec(sampling=replace(sampling, level_1=LevelSampling(temperature=0.9)))))
    assert hotter[2] == plain[2]
    assert not set(hotter[1]) & set(plain[1])
    assert not set(hotter[0]) & set(plain[0])
    for change in ({"sample": 1}, {"dtype": "bfloat16"}, {"sampling": replace(sampling, seed=4)}):
        changed = keys(plan_song(spec(**change)))
        assert not any(set(changed[level]) & set(plain[level]) for level in range(3))


def test_what_is_no_cause_changes_no_key() -> None:
    plain = keys(plan_song(spec()))
    assert keys(plan_song(spec(config=replace(MINI, name="renamed")))) == plain
    assert keys(plan_song(spec(sampling=SamplingConfig(seed=3, n_samples=7)))) == plain


def test_later_lyrics_leave_the_first_windows_alone() -> None:
    words = replace(LABELS, lyric_tokens=tuple(range(1, 60)) * 10)
    other = replace(words, lyric_tokens=(*words.lyric_tokens[:-1], 1))
    before, after = keys(plan_song(spec(20.0, labels=[words] * 3))), keys(plan_song(spec(20.0, labels=[other] * 3)))
    assert before[2][0] == after[2][0]
