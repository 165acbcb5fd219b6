from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
from torch.utils.data import DataLoader

from jukebox_core.audio.files import audio_seconds
from jukebox_core.datasets import recordings
from jukebox_core.datasets.checks import Checks
from jukebox_core.datasets.clips import AudioClips
from jukebox_core.datasets.config import CheckConfig
from jukebox_core.datasets.recordings import check_recordings, usable_recordings
from jukebox_core.datasets.songs import Song, scan_songs
from jukebox_core.errors import AudioError, StoreError
from jukebox_core.training.loop import _with_plain_errors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

RATE = 8000
CONFIG = CheckConfig(shortest_seconds=0.2, most_unreadable=0.5)


def write_song(path: Path, seconds: float, seed: int) -> None:
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * RATE))
    soundfile.write(path, noise, RATE, subtype="FLOAT")


def spoil(path: Path) -> None:
    """Replaces a recording by one with a value that is not finite everywhere."""
    soundfile.write(path, np.full(4 * RATE, np.nan), RATE, subtype="FLOAT")


@pytest.fixture
def music(tmp_path: Path) -> Path:
    folder = tmp_path / "music"
    folder.mkdir()
    for number in range(4):
        write_song(folder / f"{number}.wav", 0.5 + number / 10, number)
    return folder


def check(music: Path, record: Path) -> Checks:
    checks = Checks(CONFIG, RATE)
    check_recordings(checks, scan_songs(music), record, lambda: None)
    return checks


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded."""
    names: list[str] = []
    real = recordings.measure

    def measure(path: Path, rate: int) -> object:
        names.append(path.name)
        return real(path, rate)

    monkeypatch.setattr(recordings, "measure", measure)
    return names


def test_songs_are_measured_once_and_unusable_ones_left_out(music: Path, tmp_path: Path, measured: list[str]) -> None:
    record = tmp_path / "model" / "recordings.json"
    spoil(music / "nan.wav")
    soundfile.write(music / "loud.wav", np.full(RATE, 12_000.0), RATE, subtype="FLOAT")
    (music / "page.mp3").write_text("<html>404</html>")
    write_song(music / "short.wav", 0.1, 9)
    write_song(music / "twin.wav", 0.5, 0)
    found = check(music, record)
    assert usable_recordings(record) == {f"{number}.wav": 0.5 + number / 10 for number in range(4)}
    assert {(each.name, each.problem) for each in found.findings} == {
        ("nan.wav", "unreadable"), ("loud.wav", "unreadable"), ("page.mp3", "unreadable"), ("short.wav", "short"),
        ("twin.wav", "duplicate"),
    }  # fmt: skip
    measured.clear()
    write_song(music / "1.wav", 0.9, 20)
    (music / "3.wav").unlink()
    assert check(music, record).seen == 8
    assert sorted(measured) == ["1.wav", "loud.wav", "nan.wav", "page.mp3"]  # what could not be read is tried again
    assert usable_recordings(record) == {"0.wav": 0.5, "1.wav": 0.9, "2.wav": 0.7}
    assert "3.wav" not in json.loads(record.read_text())["measured"]


def test_an_interrupted_check_goes_on(music: Path, tmp_path: Path, measured: list[str]) -> None:
    record = tmp_path / "recordings.json"
    calls = iter([None, None, KeyboardInterrupt()])

    def stop() -> None:
        error = next(calls)
        if error is not None:
            raise error

    with pytest.raises(KeyboardInterrupt):
        check_recordings(Checks(CONFIG, RATE), scan_songs(music), record, stop)
    with pytest.raises(StoreError, match="no complete record"):
        usable_recordings(record)
    measured.clear()
    check(music, record)
    assert measured == ["3.wav"]
    assert len(usable_recordings(record)) == 4


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"rate": 8000}', '{"rate": 8000, "measured": {"0.wav": 5}}', "\x00", '{"rate": 5}']
)
def test_a_damaged_record_is_made_again(music: Path, tmp_path: Path, text: str) -> None:
    record = tmp_path / "recordings.json"
    record.write_text(text)
    with pytest.raises(StoreError, match="remove it, and run the same command again"):
        usable_recordings(record)
    check(music, record)
    assert len(usable_recordings(record)) == 4


def clips(songs: Sequence[Song], lengths: dict[str, float] | None = None, most: float = 0.1) -> AudioClips:
    return AudioClips(
        songs, seconds=0.1, sample_rate=RATE, channels=1, seed=0, augment=True, lengths=lengths, most_unreadable=most
    )


def test_clips_lie_within_measured_lengths(music: Path) -> None:
    songs = scan_songs(music)
    lengths = {song.name: audio_seconds(song.path) / 2 for song in songs}
    found = clips(songs, lengths)
    for index in range(3 * len(found)):
        clip = found[index]
        assert clip.total == int(lengths[songs[clip.song].name] * RATE)
        assert clip.start + 800 <= clip.total


def test_a_recording_that_cannot_be_read_any_more_is_skipped_and_counted(
    music: Path, caplog: pytest.LogCaptureFixture
) -> None:
    songs = scan_songs(music)
    whole, found = clips(songs), clips(songs)
    kept = [whole[index] for index in range(len(whole))]
    spoil(songs[1].path)
    for index, before in enumerate(kept):
        clip = found[index]
        assert clip.song != 1
        if before.song != 1:
            assert clip.start == before.start
            assert clip.audio_TC.equal(before.audio_TC)
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(lines) == 1  # not one a clip
    assert lines[0].startswith("1.wav is skipped, others are taken in its place; 1 of 4 songs cannot be read: ")
    songs[0].path.unlink()
    with pytest.raises(AudioError, match=r"2 of 4 songs can no longer be read, more than the allowed share of 0\.1 \("):
        [found[index] for index in range(len(found))]
    allowed = clips(songs, dict.fromkeys((song.name for song in songs), 0.5), most=0.5)
    assert {allowed[index].song for index in range(len(allowed))} == {2, 3}


def test_a_training_ends_when_no_recording_is_left(music: Path) -> None:
    songs = scan_songs(music)
    found = clips(songs, most=1.0)
    for song in songs:
        spoil(song.path)
    with pytest.raises(AudioError, match=r"4 of 4 songs can no longer be read"):
        found[0]


def test_workers_share_the_count_and_end_with_one_line(music: Path) -> None:
    songs = scan_songs(music)
    found = clips(songs)
    for song in songs[:2]:
        spoil(song.path)
    order = [index for index in range(len(found)) if index < 5]
    loader = DataLoader(found, batch_size=None, sampler=order, num_workers=1)
    with pytest.raises(AudioError, match=r"^2 of 4 songs can no longer be read") as caught:
        list(_with_plain_errors(loader))
    assert "Traceback" not in str(caught.value)
    assert len(found._unreadable) == 2


def test_names_forge_no_lines_of_the_summary(music: Path, tmp_path: Path) -> None:
    for seed, name in enumerate(("short\n1 of 1 files can be used.wav", "short \x1b[31m\udce9.wav")):
        write_song(music / "song.wav", 0.1, seed)
        (music / "song.wav").rename(music / name)
    checks = check(music, tmp_path / "record")
    lines = checks.summary()
    assert [line.split()[1] for line in lines] == ["of", "short:"]
    assert r"short\n1 of 1 files can be used.wav (0.10 s" in lines[1]
    assert r"short \x1b[31m\udce9.wav (0.10 s" in lines[1]
    assert {finding.name for finding in checks.findings} == {path.name for path in music.glob("short*")}
