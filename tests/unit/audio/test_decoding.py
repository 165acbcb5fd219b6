"""What is heard of a file is what it holds, whatever its header says; every expectation is ffmpeg's own decoding."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from jukebox_core.audio import decoding, ffmpeg
from jukebox_core.audio.complaints import complaints
from jukebox_core.audio.ffmpeg import ffmpeg_program
from jukebox_core.audio.files import audio_seconds, read_audio, read_channels, read_whole
from jukebox_core.composer.builtin import read_prompt_audio
from jukebox_core.errors import AudioError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RATE = 44100
PROGRAM = ffmpeg_program()
needs_ffmpeg = pytest.mark.skipif(PROGRAM is None, reason="ffmpeg is not installed")


def run_ffmpeg(*arguments: str | Path) -> bytes:
    assert PROGRAM is not None
    command = [PROGRAM, "-nostdin", "-v", "quiet", "-y", *map(str, arguments)]
    return subprocess.run(command, stdout=subprocess.PIPE, check=False).stdout


def as_ffmpeg_decodes(path: Path) -> np.ndarray:
    """Returns the samples of a mono file, [T]."""
    return np.frombuffer(run_ffmpeg("-i", path, "-f", "f32le", "pipe:1"), "<f4")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tone.wav, three seconds that begin loud, and the same sound in other formats."""
    folder = tmp_path_factory.mktemp("sounds")
    time = np.arange(3 * RATE) / RATE
    loud = np.where(time < 1, 0.5, 0.02)
    noise = np.random.default_rng(0).uniform(-1, 1, len(time))
    soundfile.write(folder / "tone.wav", loud * (0.5 * np.sin(2 * np.pi * 330 * time) + 0.5 * noise), RATE)
    soundfile.write(folder / "other.wav", np.stack([0.3 * np.sin(2 * np.pi * 220 * time)] * 2, 1)[:RATE], 32000)
    soundfile.write(folder / "tone.flac", soundfile.read(folder / "tone.wav")[0], RATE)
    soundfile.write(folder / "tone.ogg", soundfile.read(folder / "tone.wav")[0], RATE)
    if PROGRAM is not None:
        outputs: list[str | Path] = ["-i", folder / "tone.wav"]
        for name, options in {
            "vbr.mp3": ("-q:a", "4", "-write_xing", "0"),
            "cbr.mp3": ("-b:a", "128k", "-write_xing", "0"),
            "tagged.mp3": ("-b:a", "64k"),
            "tone.m4a": (),
            "alac.m4a": ("-c:a", "alac"),
            "tone.opus": (),
            "tone.webm": ("-c:a", "libopus"),
            "tone.aac": (),
            "flac_in_ogg.ogg": ("-c:a", "flac"),
        }.items():
            outputs += [*options, folder / name]
        run_ffmpeg(*outputs)
        run_ffmpeg("-i", folder / "other.wav", "-b:a", "96k", folder / "other.mp3")
        (folder / "streamed.flac").write_bytes(run_ffmpeg("-i", folder / "tone.wav", "-f", "flac", "pipe:1"))
    return folder


def set_bytes(data: bytes, place: int, new: bytes) -> bytes:
    return data[:place] + new + data[place + len(new) :]


def of_sizes_zero(folder: Path) -> bytes:
    data = (folder / "tone.wav").read_bytes()
    return set_bytes(set_bytes(data, 4, bytes(4)), data.find(b"data") + 4, bytes(4))


def flac_that_promises(samples: int, folder: Path) -> bytes:
    data = (folder / "tone.flac").read_bytes()
    return set_bytes(
        set_bytes(data, 21, bytes([data[21] & 0xF0 | samples >> 32])), 22, struct.pack(">I", samples % 2**32)
    )


def damaged(name: str, folder: Path) -> bytes:
    data = (folder / name).read_bytes()
    return set_bytes(data, len(data) // 2, bytes(2000))


def joined(*names: str) -> Callable[[Path], bytes]:
    return lambda folder: b"".join((folder / name).read_bytes() for name in names)


# Files of which libsndfile reads nothing, an error, or a part without a word.
HARD: dict[str, Callable[[Path], bytes]] = {
    "vbr.mp3": joined("vbr.mp3"),
    "joined.mp3": joined("tagged.mp3", "tagged.mp3"),
    "joined_other_rate.mp3": joined("tagged.mp3", "other.mp3"),
    "cut.mp3": lambda folder: (folder / "tagged.mp3").read_bytes()[:12_000],
    "damaged.mp3": lambda folder: damaged("tagged.mp3", folder),
    "damaged.flac": lambda folder: damaged("tone.flac", folder),
    "cut.flac": lambda folder: (folder / "tone.flac").read_bytes()[:100_000],
    "streamed.flac": joined("streamed.flac"),
    "joined.flac": joined("tone.flac", "tone.flac"),
    "promises_little.flac": lambda folder: flac_that_promises(1000, folder),
    "promises_hours.flac": lambda folder: flac_that_promises(2**36 - 1, folder),
    "joined.ogg": joined("tone.ogg", "tone.ogg"),
    "flac_in_ogg.ogg": joined("flac_in_ogg.ogg"),
    "sizes_zero.wav": of_sizes_zero,
    "tone.m4a": joined("tone.m4a"),
    "alac.m4a": joined("alac.m4a"),
    "tone.webm": joined("tone.webm"),
    "tone.aac": joined("tone.aac"),
    "no_suffix": joined("tone.m4a"),
}  # fmt: skip


@needs_ffmpeg
@pytest.mark.parametrize("name", HARD)
def test_what_ffmpeg_hears_is_heard(made: Path, tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / name
    path.write_bytes(HARD[name](made))
    rate = 48000 if name.endswith("webm") else RATE
    whole, seconds = read_whole(path, rate=rate)
    np.testing.assert_array_equal(whole, as_ffmpeg_decodes(path))
    assert seconds == len(whole) / rate
    if not name.startswith("damaged"):  # a hole in the middle is seen when it is read
        assert audio_seconds(path) == seconds
        with pytest.raises(
            AudioError, match=rf"lasts {seconds:.2f} s, too short to read 2 s from {seconds - 1:g} s on"
        ):
            read_channels(path, rate=rate, seconds=2, offset=seconds - 1)
    part = read_audio(path, rate=rate, seconds=0.1, offset=0.2)
    first = int(0.2 * rate + 1e-6)
    np.testing.assert_allclose(part, whole[first : first + len(part)], atol=1e-6)
    assert capfd.readouterr().err == ""  # no lines of libmpg123


@needs_ffmpeg
def test_the_inputs_of_the_reports_are_heard_whole(shared: Path, capfd: pytest.CaptureFixture[str]) -> None:
    inputs = shared / "faults" / "inputs"
    if not inputs.is_dir():
        pytest.skip(f"{inputs} is absent")
    for name in ("vbr_no_header_loud_first.mp3", "cut_download.mp3", "flac_in_ogg.ogg", "wav_sizes_zero.wav"):
        samples = read_audio(inputs / name, rate=RATE)
        np.testing.assert_array_equal(samples, as_ffmpeg_decodes(inputs / name), err_msg=name)
        assert audio_seconds(inputs / name) == len(samples) / RATE
    with pytest.raises(AudioError, match=r"peak of 12000, and full scale is 1"):
        read_audio(inputs / "float_int_scale.wav", rate=RATE)
    with pytest.raises(AudioError, match=r"web_page.mp3 is not audio that can be read: it is a web page"):
        read_audio(inputs / "web_page.mp3", rate=RATE)
    assert capfd.readouterr().err == ""


def id3(size: int) -> bytes:
    size7 = bytes([size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127])
    return b"ID3\x03\0\0" + size7 + np.random.default_rng(0).bytes(size)


# Ordinary files: their samples, and with them the keys of prompts, stay those of libsndfile, whatever lies around them.
AROUND: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "constant rate without a tag": ("cbr.mp3", lambda data: data),
    "tag": ("tagged.mp3", lambda data: data),
    "cover before": ("tagged.mp3", lambda data: id3(100_000) + data),
    "cover after": ("tagged.mp3", lambda data: data + b"APETAGEX" + np.random.default_rng(1).bytes(100_000)),
    "ID3v1 and zeros": ("tagged.mp3", lambda data: data + b"TAG" + bytes(2000)),
    "headers of a stream before": ("tagged.mp3", lambda data: b"ICY 200 OK\r\nicy-br: 64\r\n\r\n" + data),
    "promises 0.2 s more": (
        "tagged.mp3", lambda data: set_bytes(data, data.find(b"Info") + 8, struct.pack(">I", 3 * 39 + 8)),
    ),
    "vorbis": ("tone.ogg", lambda data: data),
    "opus": ("tone.opus", lambda data: data),
    "flac": ("tone.flac", lambda data: data),
    "flac after ID3": ("tone.flac", lambda data: id3(5000) + data),
    "wav": ("tone.wav", lambda data: data),
    "wav of a stream": ("tone.wav", lambda data: set_bytes(data, 4, b"\xff" * 4)),
}  # fmt: skip


@needs_ffmpeg
@pytest.mark.parametrize("case", AROUND)
def test_ordinary_files_keep_their_samples(
    made: Path, tmp_path: Path, case: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, change = AROUND[case]
    path = tmp_path / name
    path.write_bytes(change((made / name).read_bytes()))
    wanted, rate = soundfile.read(path, dtype="float32")  # as this project read it before it counted lengths
    capfd.readouterr()
    monkeypatch.setattr(decoding, "ffmpeg_decoder", None)  # not needed
    np.testing.assert_array_equal(read_audio(path, rate=rate), wanted)
    assert audio_seconds(path) == len(wanted) / rate
    assert capfd.readouterr().err == ""


@needs_ffmpeg
def test_damaged_frames_are_one_warning(
    made: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    data = bytearray((made / "tagged.mp3").read_bytes())
    place = data.find(b"Info") + 1000
    frames = [at for at in range(place, len(data)) if data[at : at + 2] == b"\xff\xfb" and data[at + 2] >> 4 == 5]
    for frame in frames[2::10]:
        data[frame + 4 : frame + 30] = b"\xff\x5a" * 13  # their headers stay
    (tmp_path / "a.mp3").write_bytes(data)
    for _ in range(2):
        assert len(read_audio(tmp_path / "a.mp3", rate=RATE)) == 3 * RATE
    assert caplog.text.count("a.mp3 has damaged frames, which are silent or distorted (libmpg123: ") == 1
    assert capfd.readouterr().err == ""


def test_lines_of_others_reach_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with complaints() as found:
        os.write(2, b"Note: Trying to resync...\n[src/libmpg123/layer3.c:f():9] error: no\nERROR: bad\nmine\n")
    assert found == ["no", "bad"]
    assert capfd.readouterr().err == "mine\n"


@pytest.mark.parametrize("channels", [2, 3, 6])
def test_channels_are_averaged_alike_in_blocks(tmp_path: Path, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    samples_TC = np.random.default_rng(0).uniform(-1, 1, (5000, channels)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples_TC, RATE, subtype="FLOAT")
    monkeypatch.setattr(decoding, "_BLOCK", 999)
    wanted = samples_TC.mean(axis=1, dtype=np.float32)
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav", rate=RATE), wanted)


def wav(tmp_path: Path, place: int, new: bytes) -> Path:
    soundfile.write(tmp_path / "a.wav", np.zeros(1000), RATE, subtype="PCM_U8")
    (tmp_path / "a.wav").write_bytes(set_bytes((tmp_path / "a.wav").read_bytes(), place, new))
    return tmp_path / "a.wav"


@pytest.mark.parametrize(
    ("place", "new", "message"),
    [
        (24, struct.pack("<I", 1), r"a sample rate of 1 Hz by its header; 1000 to 768000 Hz can be read"),
        (24, struct.pack("<I", 999), r"a sample rate of 999 Hz"),
        (24, struct.pack("<I", 2**31 - 1), r"a sample rate of 2147483647 Hz"),
        (24, bytes(4), "is not audio that can be read|cannot be read"),
        (24, b"\xff" * 4, "is not audio that can be read|cannot be read"),
        (22, bytes(2), "is not audio that can be read|cannot be read"),
        (22, struct.pack("<H", 500), r"500 channels by its header; 1 to 64 can be read"),
        (22, b"\xff" * 2, "is not audio that can be read|cannot be read"),
    ],
)
@pytest.mark.parametrize("read", [lambda path: read_audio(path, rate=RATE), audio_seconds])
def test_headers_beyond_the_limits_are_refused(
    tmp_path: Path, place: int, new: bytes, message: str, read: Callable[[Path], object]
) -> None:
    with pytest.raises(AudioError, match=message):
        read(wav(tmp_path, place, new))


def test_more_than_a_day_is_refused_before_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(RATE), RATE)
    monkeypatch.setattr(decoding, "LONGEST_SECONDS", 0.9)
    monkeypatch.setattr(soundfile.SoundFile, "read", None)
    with pytest.raises(AudioError, match=r"hours cannot be read at once"):
        read_audio(tmp_path / "a.wav", rate=RATE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xef\xbb\xbf\n <!DOCTYPE html><html>404", "it is a web page"),
        ("Löwenzahn\n".encode() * 600, "it is text"),
        (b"#EXTM3U\nhttp://127.0.0.1:1/secret.mp3\n", "it is text"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "it is text"),
        (bytes(9000), "nothing but zeros"),
        (np.random.default_rng(0).bytes(5000), "is not audio that can be read|cannot be read without ffmpeg"),
        (b"ID3" + bytes(200) + b"\xff" * 900, "is not audio that can be read|cannot be read without ffmpeg"),
    ],
)
def test_what_is_no_audio_is_named(
    tmp_path: Path, content: bytes, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.mp3").write_bytes(content)
    with pytest.raises(AudioError, match=message):
        read_audio(tmp_path / "a.mp3", rate=RATE)
    assert capfd.readouterr().err == ""


def test_paths_that_are_no_files_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    for path, message in {
        str(tmp_path / "pipe.wav"): "is a device or a pipe",
        "/dev/zero": "is a device or a pipe",
        "x" * 300 + ".wav": "File name too long",
        "nul\0.wav": "null",
        str(tmp_path / "none.wav"): "does not exist",
    }.items():
        for read in (read_audio, read_prompt_audio):
            with pytest.raises(AudioError, match=message):
                read(path, rate=RATE)


def test_names_that_are_not_utf_8_are_read(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")
    soundfile.write(tmp_path / "a.wav", np.full(100, 0.5), RATE)
    (tmp_path / "a.wav").rename(path)
    assert len(read_audio(path, rate=RATE)) == 100


@needs_ffmpeg
def test_ffmpeg_reads_names_that_look_like_addresses(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (os.fsdecode(b"caf\xe9.m4a"), "-i.m4a", "concat:a.m4a", "%d.m4a"):
        shutil.copy(made / "tone.m4a", tmp_path / name)
        assert len(read_audio(name, rate=RATE)) > 3 * RATE, name


def without_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ffmpeg.shutil, "which", lambda _: None)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)


@needs_ffmpeg
def test_without_ffmpeg_the_message_says_what_to_install(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_ffmpeg(monkeypatch)
    for name, why in {"tone.m4a": "Format not recognised", "vbr.mp3": "its header promises"}.items():
        with pytest.raises(AudioError, match=rf"without ffmpeg \(.*{why}.*; install ffmpeg, or `pip install"):
            read_audio(made / name, rate=RATE)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exec sleep 30", r"ffmpeg gave no sample of .* in 0\.2 s"),
        ("echo '[x @ 0x1] no such codec' >&2; exit 1", r"is not audio that can be read \(ffmpeg: no such codec\)"),
        ("kill -SEGV $$", r"is not audio that can be read \(ffmpeg: it holds no sound\)"),
    ],
)
def test_an_ffmpeg_that_hangs_or_crashes_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(ffmpeg, "_PATIENCE", 0.2 if "sleep" in script else 20.0)
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100) + b"\xfe")
    with pytest.raises(AudioError, match=message):
        read_audio(tmp_path / "a.m4a", rate=RATE)


@pytest.mark.parametrize("peak", [1.0, 1.9, 3.0, 15.0, 17.0, 12_000.0])
@pytest.mark.parametrize("rate", [RATE, 22050])
def test_samples_far_beyond_full_scale_are_refused_and_loud_ones_reported(
    tmp_path: Path, peak: float, rate: int, caplog: pytest.LogCaptureFixture
) -> None:
    samples_TC = np.zeros((1000, 2), np.float32)
    samples_TC[500] = peak, -peak  # the mean of both channels is silent
    soundfile.write(tmp_path / "a.wav", samples_TC, RATE, subtype="FLOAT")
    if peak > decoding.LOUDEST:
        with pytest.raises(AudioError, match=rf"peak of {peak:.5g}, and full scale is 1: .* scale them to -1 to 1"):
            read_audio(tmp_path / "a.wav", rate=rate)
        return
    for _ in range(2):
        read_audio(tmp_path / "a.wav", rate=rate)
    assert caplog.text.count("beyond 2 times full scale") == (1 if peak > decoding.LOUD else 0)
