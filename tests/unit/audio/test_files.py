from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from jukebox_core.audio.files import AudioFormat, Tag, read_audio, read_tags, write_audio
from jukebox_core.errors import AudioError

if TYPE_CHECKING:
    from pathlib import Path

RATE = 44100


def sine(hertz: float, seconds: float, rate: int) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def test_a_file_at_the_wanted_rate_is_read_as_it_is(tmp_path: Path) -> None:
    samples = sine(440, 0.5, RATE)
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    read = read_audio(tmp_path / "a.wav", rate=RATE)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, samples)
    np.testing.assert_array_equal(
        read_audio(tmp_path / "a.wav", rate=RATE, seconds=0.1, offset=0.2), samples[8820:13230]
    )


@pytest.mark.parametrize("container", ["wav", "flac", "mp3"])
def test_tags_are_read_back(tmp_path: Path, container: AudioFormat) -> None:
    tags: dict[Tag, str] = {"title": "Älteres Stück", "artist": "organ", "genre": "", "comment": "two\nlines"}
    path = write_audio(tmp_path / f"a.{container}", sine(440, 0.5, RATE), RATE, tags={**tags, "copyright": "mine"})
    found = read_tags(path)
    assert found["title"] == ("Alteres Stuck" if container == "mp3" else "Älteres Stück")
    assert (found["artist"], found["comment"]) == ("organ", "two lines")
    assert "genre" not in found
    assert found.get("copyright") == (None if container == "mp3" else "mine")


def test_tags_change_no_sample(tmp_path: Path) -> None:
    samples = sine(440, 0.5, RATE)
    plain, tagged = write_audio(tmp_path / "a.wav", samples, RATE), tmp_path / "b.wav"
    write_audio(tagged, samples, RATE, tags={"title": "b"})
    np.testing.assert_array_equal(read_audio(plain, rate=RATE), read_audio(tagged, rate=RATE))


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = sine(440, 0.1, RATE), sine(330, 0.1, RATE)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), RATE, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav", rate=RATE), (left + right) / 2, atol=1e-7)


@pytest.mark.parametrize("own_rate", [8000, 22050, 32000, 48000, 96000])
def test_other_rates_are_resampled(tmp_path: Path, own_rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", sine(440, 1, own_rate), own_rate, subtype="FLOAT")
    read = read_audio(tmp_path / "a.wav", rate=RATE, seconds=1)
    assert read.shape == (RATE,)
    inside = slice(RATE // 10, -RATE // 10)  # a resampler rings where the sound sets in
    np.testing.assert_allclose(read[inside], sine(440, 1, RATE)[inside], atol=2e-5)


@pytest.mark.parametrize("own_rate", [8000, 32000, 44100, 48000, 96000])
@pytest.mark.parametrize(("offset", "seconds"), [(0.0, 0.5), (0.7, 0.25), (1.234567, 0.333), (1.5, None)])
def test_an_excerpt_equals_that_part_of_the_whole(
    tmp_path: Path, own_rate: int, offset: float, seconds: float | None
) -> None:
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, 2 * own_rate)
    soundfile.write(tmp_path / "a.wav", noise, own_rate, subtype="FLOAT")
    whole = read_audio(tmp_path / "a.wav", rate=RATE)
    start = int(offset * RATE + 1e-6)
    stop = None if seconds is None else start + int(seconds * RATE + 1e-6)
    part = read_audio(tmp_path / "a.wav", rate=RATE, seconds=seconds, offset=offset)
    np.testing.assert_allclose(part, whole[start:stop], atol=1e-6)


def test_only_the_needed_part_of_a_long_file_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(60 * 8000), 8000)
    decoded = []
    original = soundfile.SoundFile.read

    def read(self: soundfile.SoundFile, *args: object, **options: object) -> np.ndarray:
        frames: np.ndarray = original(self, *args, **options)
        decoded.append(len(frames))
        return frames

    monkeypatch.setattr(soundfile.SoundFile, "read", read)
    read_audio(tmp_path / "a.wav", rate=RATE, seconds=1, offset=30)
    assert sum(decoded) < 4 * 8000


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_common_formats_are_read(tmp_path: Path, suffix: str) -> None:
    samples = sine(440, 1, RATE)
    soundfile.write(tmp_path / f"a.{suffix}", samples, RATE)
    read = read_audio(tmp_path / f"a.{suffix}", rate=RATE)
    assert abs(len(read) - RATE) < 3000  # mp3 adds a delay
    assert np.sqrt(np.mean(read**2)) == pytest.approx(np.sqrt(np.mean(samples**2)), rel=0.05)


@pytest.mark.parametrize("own_rate", [44100, 48000])
def test_the_error_of_a_short_file_gives_its_duration(tmp_path: Path, own_rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(2 * own_rate), own_rate)
    assert len(read_audio(tmp_path / "a.wav", rate=RATE, seconds=2)) == 2 * RATE
    for seconds, offset in ((2.01, 0.0), (1.5, 0.6), (None, 3.0), (1.0, 2.0)):
        with pytest.raises(AudioError, match=r"lasts 2\.00 s, too short to read .*from .* s on; choose a longer file"):
            read_audio(tmp_path / "a.wav", rate=RATE, seconds=seconds, offset=offset)


@pytest.mark.parametrize(("seconds", "offset"), [(0, 0), (-1, 0), (1, -0.5)])
def test_impossible_excerpts_are_refused(seconds: float, offset: float) -> None:
    with pytest.raises(AudioError, match="begin at 0 or later"):
        read_audio("a.wav", rate=RATE, seconds=seconds, offset=offset)


@pytest.mark.parametrize("name", ["song.txt", "song.wav", "song.raw", "song.mp3"])
def test_a_file_that_is_no_audio_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("these are the words of a song, not its sound\n" * 50)
    with pytest.raises(AudioError, match="is not audio that can be read"):
        read_audio(tmp_path / name, rate=RATE)


def test_missing_files_folders_and_empty_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    soundfile.write(tmp_path / "silent.wav", np.zeros(0), RATE)
    for name, words in (
        ("none.wav", "does not exist; correct the path"),
        ("", "is a folder"),
        ("empty.wav", "is empty"),
        ("silent.wav", r"lasts 0\.00 s"),
    ):
        with pytest.raises(AudioError, match=words):
            read_audio(tmp_path / name, rate=RATE)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_both_ways(tmp_path: Path, bad: float) -> None:
    samples = np.zeros(1000, np.float32)
    samples[441] = bad
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"not finite, the first 0\.01 s in"):
        read_audio(tmp_path / "a.wav", rate=22050)
    with pytest.raises(AudioError, match="not finite"):
        write_audio(tmp_path / "b.wav", samples, RATE)


@pytest.mark.parametrize("container", ["wav", "flac"])
def test_written_files_read_back_within_16_bits_and_clip(tmp_path: Path, container: str) -> None:
    samples = np.array([0, 0.25, -0.75, 1.5, -2.0], np.float32)
    path = write_audio(tmp_path / "deep" / f"a.{container}", samples, RATE)
    assert soundfile.info(path).subtype == "PCM_16"
    np.testing.assert_allclose(read_audio(path, rate=RATE), np.clip(samples, -1, 1), atol=1 / 16384)


def test_the_format_argument_overrides_the_suffix(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.bin", sine(440, 1, RATE), RATE, "mp3")
    assert soundfile.info(path).format == "MP3"


def test_a_failed_write_leaves_the_old_file_and_no_temporary_file(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", sine(440, 0.1, RATE), RATE)
    before = path.read_bytes()
    with pytest.raises(AudioError, match=r"cannot write .* at 123 Hz"):
        write_audio(path, np.zeros(10), 123, "mp3")
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.wav"]


@pytest.mark.parametrize(
    ("name", "samples", "words"),
    [
        ("a.waw", np.zeros(3), "choose one of wav, flac, mp3; closest: 'wav'"),
        ("a", np.zeros(3), "as ''"),
        ("a.wav", np.zeros((2, 3)), r"shape \(2, 3\)"),
        ("a.wav", np.zeros(0), r"shape \(0,\)"),
    ],
)
def test_invalid_formats_and_shapes_are_refused(tmp_path: Path, name: str, samples: np.ndarray, words: str) -> None:
    with pytest.raises(AudioError, match=words):
        write_audio(tmp_path / name, samples, RATE)
    assert not list(tmp_path.iterdir())


def test_real_clips_are_read_whole_and_in_part(shared: Path) -> None:
    clips = sorted((shared / "audio").glob("*"))
    if not clips:
        pytest.skip(f"{shared / 'audio'} holds no clips")
    for clip in clips:
        info = soundfile.info(clip)
        whole = read_audio(clip, rate=RATE)
        # The header of an mp3 file can promise up to a frame of 1,152 samples more than the decoder returns.
        assert len(whole) == pytest.approx(
            info.frames * RATE / info.samplerate, abs=1600 if clip.suffix == ".mp3" else 1
        )
        assert 0.01 < np.abs(whole).max() <= 1.5
        part = read_audio(clip, rate=RATE, seconds=2, offset=3)
        # A lossy decoder that starts in the middle lacks a little of what came before.
        np.testing.assert_allclose(part, whole[3 * RATE : 5 * RATE], atol=1e-3)
