"""Music and how it is made: in pieces, with progress, interrupted, continued, over a store; on a tiny model."""

from __future__ import annotations

import base64
import io
import re
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

import jukebox_core as jukebox
from jukebox_core.api.generation import Progress
from jukebox_core.api.progress_bar import Bar
from jukebox_core.audio.files import read_tags
from jukebox_core.errors import ConfigError
from jukebox_core.store.store import TokenStore
from pipelines.settings.compose import GENERATE, compose
from tests.helpers.models.own_model import SECONDS, write_own_model
from tests.helpers.plain_flows import run_plainly

if TYPE_CHECKING:
    from pathlib import Path

TOP = jukebox.SamplingConfig(stop_level=2)
SONG = jukebox.Song(artist="organ trio", genre="waltz")


@pytest.fixture(scope="module")
def own_yaml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_own_model(tmp_path_factory.mktemp("own"), scale=8.0)


@pytest.fixture(scope="module")
def own(own_yaml: Path, tmp_path_factory: pytest.TempPathFactory) -> jukebox.Jukebox:
    hardware = jukebox.HardwareConfig(device="cpu", threads=1, batch_size=2)
    model: jukebox.Jukebox = jukebox.load_model(own_yaml, hardware=hardware, folder=tmp_path_factory.mktemp("weights"))
    return model


@pytest.fixture(scope="module")
def music(own: jukebox.Jukebox) -> jukebox.Music:
    return own.generate(SONG, seconds=SECONDS, n_samples=2, seed=3)


def same(left: jukebox.Music, right: jukebox.Music) -> bool:
    return left.codes.keys() == right.codes.keys() and all(
        np.array_equal(codes, right.codes[level]) for level, codes in left.codes.items()
    )


def test_a_stream_reports_every_window_and_ends_with_the_music(own: jukebox.Jukebox, music: jukebox.Music) -> None:
    pieces = list(own.stream(SONG, seconds=SECONDS, n_samples=2, seed=3))
    levels = [piece.level for piece in pieces]
    assert levels == sorted(levels, reverse=True)
    assert set(levels) == {2, 1, 0}
    assert len(pieces) > 3
    for level in (2, 1, 0):
        seconds = [piece.seconds for piece in pieces if piece.level == level]
        assert seconds == sorted(seconds)
        assert seconds[-1] == pytest.approx(music.seconds)
    first, last = pieces[0], pieces[-1]
    assert first.audio.shape == (2, first.codes[2].shape[1] * 128)
    assert all(np.array_equal(last.codes[level], codes) for level, codes in music.codes.items())
    np.testing.assert_array_equal(last.audio, music.audio)


def test_settings_of_a_stream_are_checked_at_once(own: jukebox.Jukebox) -> None:
    with pytest.raises(ConfigError):
        own.stream(seconds=-1.0)


def test_a_stream_that_is_left_frees_its_tokens(own: jukebox.Jukebox) -> None:
    before = len(TokenStore("memory://").keys())
    stream = own.stream(seconds=SECONDS)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert len(TokenStore("memory://").keys()) == before


def test_progress_is_reported_to_the_end_of_every_level(own: jukebox.Jukebox) -> None:
    reported: list[jukebox.Progress] = []
    own.generate(SONG, seconds=SECONDS, n_samples=2, on_progress=reported.append)
    for level in (2, 1, 0):
        found = [each for each in reported if each.level == level]
        assert [each.tokens for each in found] == sorted(each.tokens for each in found)
        assert found[-1].tokens == found[-1].total == 2 * (34 << 2 * (2 - level))


def interrupt_at(level: int, tokens: int) -> object:
    def stop(progress: jukebox.Progress) -> None:
        if progress.level == level and progress.tokens >= tokens:
            raise KeyboardInterrupt

    return stop


def test_ctrl_c_returns_what_is_there_and_a_store_goes_on(
    own: jukebox.Jukebox, music: jukebox.Music, tmp_path: Path
) -> None:
    part = own.generate(
        SONG,
        seconds=SECONDS,
        n_samples=2,
        seed=3,
        store=tmp_path,
        on_progress=interrupt_at(1, 150),  # type: ignore[arg-type]
    )
    assert not part.finished
    assert "interrupted" in part._repr_html_()
    assert set(part.codes) == {2, 1}
    np.testing.assert_array_equal(part.codes[2], music.codes[2])
    known = part.codes[1].shape[1]
    assert 0 < known < music.codes[1].shape[1]
    np.testing.assert_array_equal(part.codes[1], music.codes[1][:, :known])
    assert part.seconds == pytest.approx(music.seconds)  # from the coarser level to its end
    reported: list[jukebox.Progress] = []
    whole = own.generate(SONG, seconds=SECONDS, n_samples=2, seed=3, store=tmp_path, on_progress=reported.append)
    assert same(whole, music)
    assert {each.level for each in reported} == {1, 0}


def test_ctrl_c_before_the_first_token_is_raised(own: jukebox.Jukebox) -> None:
    def stop(_: jukebox.Progress) -> None:
        raise KeyboardInterrupt

    music = own.generate(seconds=SECONDS, sampling=TOP, on_progress=stop)
    assert not music.finished  # one step was made
    own._network = None

    def unable(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(own, "_open_network", unable)
        with pytest.raises(KeyboardInterrupt):
            own.generate(seconds=SECONDS, sampling=TOP)


def test_a_store_has_the_keys_of_the_command_line(own: jukebox.Jukebox, own_yaml: Path, tmp_path: Path) -> None:
    store = tmp_path / "tokens"
    overrides = [
        *(f"model={own_yaml}", f"seconds={SECONDS}", "sampling.seed=3", "hardware=cpu", "hardware.threads=1"),
        *(f"storage.root={tmp_path}", f"storage.tokens={store}", "output.report=false", "song.genre=waltz"),
        *(f"weights.folder={own._weights.folder}", "sampling=top_only"),
    ]
    run_plainly(compose(GENERATE, overrides))
    before = TokenStore(store).keys()
    reported: list[jukebox.Progress] = []
    song = jukebox.Song(genre="waltz")
    own.generate(song, seconds=SECONDS, seed=3, sampling=TOP, store=store, on_progress=reported.append)
    assert reported == []
    assert TokenStore(store).keys() == before


def test_one_sample_is_music_too(music: jukebox.Music) -> None:
    second = music[1]
    assert (len(music), len(second), second.samples) == (2, 1, (1,))
    np.testing.assert_array_equal(second.audio[0], music.audio[1])
    np.testing.assert_array_equal(second.codes[0][0], music.codes[0][1])
    assert [each.samples for each in music] == [(0,), (1,)]
    assert same(music[-1], second)
    assert same(music[0:2], music)
    with pytest.raises(IndexError):
        music[2]
    assert repr(second) == f"Music(1 samples of {music.seconds:.2f} s, levels 2, 1, 0)"


def test_any_level_can_be_heard(own: jukebox.Jukebox, music: jukebox.Music) -> None:
    np.testing.assert_array_equal(music.level(2), own.decode(music.codes[2], 2))
    np.testing.assert_array_equal(music.level(0), music.audio)
    with pytest.raises(ConfigError, match="level 3 was not sampled; choose one of 0, 1, 2"):
        music.level(3)


def test_sound_is_saved_with_tags(music: jukebox.Music, tmp_path: Path) -> None:
    assert music.save(tmp_path / "song.flac") == [tmp_path / "song_0.flac", tmp_path / "song_1.flac"]
    [path] = music[1].save(tmp_path / "one.flac")
    tags = read_tags(path)
    assert (tags["title"], tags["artist"], tags["genre"]) == ("one", "organ trio", "waltz")
    assert tags["comment"] == "made by the model own; licence: made up for tests"
    assert len(jukebox.read_audio(path, rate=music.sample_rate)) == music.audio.shape[1]


def test_a_notebook_shows_a_player_for_each_sample(music: jukebox.Music) -> None:
    shown = music._repr_html_()
    sounds = [base64.b64decode(data) for data in re.findall(r"data:audio/flac;base64,([^\"]+)", shown)]
    assert shown.count("<audio controls aria-label=") == len(sounds) == 2
    samples, rate = soundfile.read(io.BytesIO(sounds[1]))
    assert rate == music.sample_rate
    np.testing.assert_allclose(samples, np.clip(music.audio[1], -1, 1), atol=1e-4)


def test_music_is_continued_by_its_own_model_and_song(own: jukebox.Jukebox, music: jukebox.Music) -> None:
    longer = music[1].continue_(SECONDS * 2)
    assert len(longer) == 1
    np.testing.assert_array_equal(longer.codes[0][:, : music.codes[0].shape[1]], music.codes[0][1:])
    expected = own.generate(
        SONG, seconds=SECONDS * 2, seed=3, start={level: codes[1:] for level, codes in music.codes.items()}
    )
    assert same(longer, expected)
    cut = music.continue_(SECONDS * 2, keep_seconds=SECONDS / 2, seed=9, songs=jukebox.Song(genre="folk"))
    assert len(cut) == 2
    np.testing.assert_array_equal(cut.codes[2][:, :17], music.codes[2][:, :17])
    assert not np.array_equal(cut.codes[2][:, :34], music.codes[2])
    with pytest.raises(ConfigError, match="keep_seconds is 0"):
        music.continue_(1.0, keep_seconds=0)


def test_a_sketch_is_upsampled_as_it_is(own: jukebox.Jukebox, music: jukebox.Music) -> None:
    sketch = own.generate(SONG, seconds=SECONDS, n_samples=2, seed=3, sampling=TOP)
    assert list(sketch.codes) == [2]
    assert same(sketch.upsample(), music)


def test_music_without_a_model_can_be_heard_and_not_continued(music: jukebox.Music) -> None:
    alone = jukebox.Music(music.codes, music.audio, music.sample_rate)
    assert alone.seconds == music.seconds
    with pytest.raises(ConfigError, match="this music does not know its model"):
        alone.upsample()


def test_a_recording_becomes_a_start(own: jukebox.Jukebox, tmp_path: Path) -> None:
    sound = 0.3 * np.sin(np.arange(22050, dtype=np.float32) / 9)
    jukebox.write_audio(tmp_path / "clip.wav", sound, 22050)
    start = own.prompt(tmp_path / "clip.wav", seconds=0.05)
    assert {level: codes.shape for level, codes in start.items()} == {2: (17,), 1: (68,), 0: (272,)}
    made = own.generate(seconds=SECONDS, start=start)
    np.testing.assert_array_equal(made.codes[0][0, :272], start[0])


def test_names_that_a_model_knows(own: jukebox.Jukebox) -> None:
    assert own.artists == ("organ_trio", "the_beetles")
    assert "waltz" in own.genres


def test_a_terminal_has_a_bar_and_a_file_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        with Bar() as reported:
            assert (reported is not None) == shown
            if reported is not None:
                reported(Progress(2, 17, 34))
                reported(Progress(2, 34, 34))
        assert ("[###############...............] level 2: 17 of 34 tokens" in stream.getvalue()) == shown
