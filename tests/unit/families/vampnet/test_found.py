"""What masks take from files and recordings: drawn tokens as text, beats from files, a tracker and onsets."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jukebox_core.errors import ConfigError
from jukebox_core.families.vampnet.config import CodebooksConfig
from jukebox_core.families.vampnet.masks import found
from jukebox_core.families.vampnet.masks.config import BeatConfig, MaskConfig
from jukebox_core.families.vampnet.masks.drawn import grid_of, read_drawn, text_of

if TYPE_CHECKING:
    from pathlib import Path

RATE, BPM, SECONDS = 44_100, 120, 12
CODEC = CodebooksConfig(sample_rate=RATE, hop=768)


def clicks() -> np.ndarray:
    """A click track: a short burst of noise at each beat."""
    track = np.zeros(SECONDS * RATE, np.float32)
    burst = np.random.default_rng(0).standard_normal(RATE // 50).astype(np.float32)
    burst *= np.exp(-np.arange(len(burst)) / 200).astype(np.float32)
    for beat in range(SECONDS * BPM // 60):
        at = beat * 60 * RATE // BPM
        track[at : at + len(burst)] += 0.5 * burst
    return track


def f_measure(times: tuple[float, ...], truth: np.ndarray, window: float = 0.07) -> float:
    """Of beats within a window of seconds, each matched once."""
    left, hits = list(times), 0
    for at in truth:
        near = [each for each in left if abs(each - at) <= window]
        if near:
            left.remove(min(near, key=lambda each: abs(each - at)))
            hits += 1
    return 2 * hits / (len(times) + len(truth))


@pytest.mark.slow
@pytest.mark.endurance  # librosa compiles for half a minute, and for minutes on a busy machine
def test_the_tracker_finds_the_beats_of_a_click_track_and_its_onsets() -> None:
    pytest.importorskip("librosa")
    sound, truth = clicks(), np.arange(0, SECONDS, 60 / BPM)
    times, bars = found.track(sound, RATE)
    assert f_measure(times, truth) >= 0.95
    assert bars == ()
    steps = np.array(found.onsets(sound, CODEC))
    heard = [np.abs(steps * CODEC.hop / RATE - at).min() < 0.07 for at in truth[1:]]
    assert np.mean(heard) >= 0.95
    mask = MaskConfig(beats=BeatConfig(source="librosa"), onset_width=1)
    whole = found.complete(mask, "clicks.wav", lambda: sound, CODEC)
    assert whole == replace(mask, beats=BeatConfig(times=times), onsets=tuple(map(int, steps))), (
        "it needs the recording no longer"
    )
    assert found.complete(mask, "", lambda: np.zeros(RATE, np.float32), CODEC).beats.times == (), "silence has no beats"


def test_without_the_package_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(found, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"mask\.beats\.source needs librosa.*or give mask\.beats\.times"):
        found.check_found(MaskConfig(beats=BeatConfig(source="librosa")), 14)
    with pytest.raises(ConfigError, match=r"mask\.onset_width needs librosa.*or give mask\.onsets"):
        found.check_found(MaskConfig(onset_width=2), 14)
    found.check_found(MaskConfig(onset_width=2, onsets=(3,)), 14)


def test_beats_of_a_folder_are_found_by_the_name_of_the_recording(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("# time, beat\n0.5,1\n1.0,2\n1.5,1\n")
    mask = MaskConfig(beats=BeatConfig(source=str(tmp_path)))
    whole = found.complete(mask, "/music/a.wav", lambda: np.zeros(1), CODEC)
    assert (whole.beats.times, whole.beats.bars) == ((0.5, 1.0, 1.5), (0.5, 1.5))
    with pytest.raises(ConfigError, match=r"has no beats of /music/b\.wav; name its file b\.txt"):
        found.complete(mask, "/music/b.wav", lambda: np.zeros(1), CODEC)


@given(st.integers(1, 15), st.integers(1, 60), st.randoms(use_true_random=False))
def test_a_drawn_mask_is_the_same_as_text(rows: int, columns: int, chance: object) -> None:
    grid = np.random.default_rng(chance.randint(0, 999)).random((rows, columns)) < 0.5  # type: ignore[attr-defined]
    assert np.array_equal(grid_of(text_of(grid), rows, columns), grid)
    assert np.array_equal(grid_of(text_of(grid, scaled=True), rows, columns), grid), "an image of the same size"


def test_a_mask_is_read_from_tables_and_images(tmp_path: Path) -> None:
    grid = np.array([[0, 1, 1, 0], [1, 0, 0, 1]], bool)
    (tmp_path / "a.csv").write_text("0,1,1,0\n1,0,0,1\n")
    (tmp_path / "b.txt").write_text("0110\n1001\n")
    np.save(tmp_path / "c.npy", grid)
    for name in ("a.csv", "b.txt", "c.npy"):
        assert np.array_equal(grid_of(read_drawn(str(tmp_path / name), 2), 2, 4), grid)
    (tmp_path / "d.txt").write_text("0 1 1 0\n")
    assert np.array_equal(grid_of(read_drawn(str(tmp_path / "d.txt"), 2), 2, 4), np.tile(grid[:1], (2, 1)))
    Image.fromarray((grid * 255).astype(np.uint8)).resize((400, 100), Image.Resampling.NEAREST).save(tmp_path / "e.png")
    drawn = read_drawn(str(tmp_path / "e.png"), 2)
    assert np.array_equal(grid_of(drawn, 2, 4), grid)
    assert np.array_equal(grid_of(drawn, 4, 8), grid.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize(
    "text", ["", "steps:2x2:", "steps:2x2:!!!!", "steps:2x2:AAAA", "steps:99999x99999:AAAA", "image:0x0:eJwDAAAAAAE="]
)
def test_damaged_text_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"drawn|draw"):
        grid_of(text, 2, 2)


@pytest.mark.parametrize("content", ["0,2\n", "0,1\n0\n", "", "zero\n"])
def test_a_table_of_something_else_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "mask.csv").write_text(content)
    with pytest.raises(ConfigError, match=r"holds no numbers 0 and 1"):
        read_drawn(str(tmp_path / "mask.csv"), 2)
