"""Recordings in a temporary file: the samples of `read_audio`, in bounded memory."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from jukebox_core.audio import decoding, streams
from jukebox_core.audio.files import read_audio
from jukebox_core.audio.spool import spool_audio
from jukebox_core.base.hashing import digest_bytes
from jukebox_core.errors import AudioError, DiskError
from tests.helpers.paths import ROOT
from tests.helpers.small_files import small_files

if TYPE_CHECKING:
    from pathlib import Path

NOISE = np.random.default_rng(3).uniform(-0.4, 0.4, (70_000, 2)).astype(np.float32)


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3", "opus"])
@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_the_samples_are_those_of_reading_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, rate: int
) -> None:
    path = tmp_path / f"a.{kind}"
    container = {"opus": ("OGG", "OPUS")}.get(kind, (kind.upper(), None))
    soundfile.write(path, NOISE, 48_000, format=container[0], subtype=container[1])
    whole = read_audio(path, rate=rate)
    monkeypatch.setattr(decoding, "_BLOCK", 9_000)
    spooled = spool_audio(path, rate=rate, folder=tmp_path)
    assert np.array_equal(spooled.samples, whole)
    assert spooled.sha256 == digest_bytes(whole.data)
    spooled.release()
    assert np.array_equal(spooled.samples, whole)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_sound_that_libsndfile_does_not_read_to_its_end_is_read_again_from_the_beginning(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, NOISE, 16_000)
    path.write_bytes(path.read_bytes()[:-60_000])  # the header promises more
    assert np.array_equal(spool_audio(path, rate=16_000).samples, read_audio(path, rate=16_000))


def test_what_is_no_recording_and_a_full_disk_are_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "x.mid").write_bytes(b"MThd\0\0\0\6\0\1\0\0\0\xdcMTrk")
    for name in ("x.mid", "none.wav"):
        with pytest.raises(AudioError, match=name):
            spool_audio(tmp_path / name, rate=16_000)
    soundfile.write(tmp_path / "a.wav", NOISE, 16_000)
    with small_files(1000), pytest.raises(DiskError, match=r"a copy of a\.wav cannot be written: it is larger"):
        spool_audio(tmp_path / "a.wav", rate=16_000, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("searched", [1, 5, 7, 64])
def test_a_second_file_is_found_across_the_parts_that_are_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, searched: int
) -> None:
    soundfile.write(tmp_path / "a.flac", NOISE[:200], 16_000)
    one = (tmp_path / "a.flac").read_bytes()
    monkeypatch.setattr(streams, "_SEARCHED", searched)
    assert streams.why_not_whole(tmp_path / "a.flac", "FLAC", 200) is None
    (tmp_path / "b.flac").write_bytes(one + one)
    assert streams.why_not_whole(tmp_path / "b.flac", "FLAC", 200) == "it is several FLAC files in one"


PROGRAM = """
import sys
from jukebox_core.audio.spool import spool_audio
audio = spool_audio(sys.argv[1], rate=16_000, folder=sys.argv[2])
status = open("/proc/self/status").read()
peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
print(len(audio.samples), peak)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    peaks = []
    for minutes in (0.2, 3):
        path = tmp_path / f"{minutes}.mp3"
        with soundfile.SoundFile(path, "w", 44_100, 2, format="MP3") as file:
            for _ in range(int(minutes * 10)):
                file.write(np.zeros((6 * 44_100, 2), np.float32))
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, path, tmp_path], cwd=ROOT, capture_output=True, text=True, check=True
        )
        samples, peak = map(int, done.stdout.split())
        assert samples > minutes * 59 * 16_000
        peaks.append(peak / 1024)  # MiB
    assert peaks[1] < peaks[0] + 30  # 3 minutes of stereo are 61 MiB, decoded
