from __future__ import annotations

import errno
import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from jukebox_core.datasets.config import CheckConfig
from jukebox_core.datasets.songs import Song, scan_songs
from jukebox_core.datasets.source import check_codes_folder, source_of, source_of_codes
from jukebox_core.datasets.windows import CodeWindows, read_index
from jukebox_core.errors import AudioError, ConfigError, LabelError, StoreError
from jukebox_core.families.jukebox.training.config import NewNames
from jukebox_core.models.config import WeightsConfig
from jukebox_core.models.presets import load_preset
from jukebox_core.runtime.config import HardwareConfig
from jukebox_core.tokens.codes import read_codes
from pipelines.settings.compose import FINETUNE, compose
from stages.fetch import fetch_vocabularies, fetch_weights
from stages.resident import CodecSpec
from stages.sound.encode import encode_audio
from stages.training import dataset
from stages.training.dataset import check_labels, check_songs, encode_songs
from tests.helpers.damage import content
from tests.helpers.models.own_model import write_own_model

CHECKS = CheckConfig(shortest_seconds=0.1, most_unreadable=0.5)
HARDWARE = HardwareConfig(device="cpu")
RATE = 44100


def write(path: Path, seconds: float, seed: int = 0, loud: float = 0.3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).uniform(-loud, loud, round(seconds * RATE))
    soundfile.write(path, np.clip(noise, -1, 1), RATE)


@pytest.fixture
def music(tmp_path: Path) -> Path:
    """Two usable songs, and one of each problem."""
    folder = tmp_path / "music"
    write(folder / "a.wav", 0.3, 1)
    write(folder / "in" / "b.wav", 0.2, 2)
    write(folder / "clipped.wav", 0.2, 3, loud=5)
    write(folder / "short.wav", 0.05, 4)
    write(folder / "silent.wav", 0.2, 5, loud=1e-5)
    write(folder / "twin.wav", 0.3, 1)
    (folder / "zero.wav").write_bytes(b"RIFF")
    return folder


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> CodecSpec:
    folder = tmp_path_factory.mktemp("own")
    path = write_own_model(folder)
    preset = load_preset(str(path))
    weights = fetch_weights(preset, WeightsConfig(folder=str(folder / "cache")), ("vqvae",))
    return CodecSpec.of(preset, weights["vqvae"], HARDWARE)


def encode(own: CodecSpec, music: Path, folder: Path, checks: CheckConfig = CHECKS) -> Path:
    return encode_songs(own, checks, scan_songs(music), folder)


def test_usable_songs_become_codes_and_the_rest_is_reported(own: CodecSpec, music: Path, tmp_path: Path) -> None:
    folder = encode(own, music, tmp_path / "codes")
    index = read_index(folder)
    assert [(song.name, song.samples) for song in index.songs] == [
        ("a.wav", 13184), ("clipped.wav", 8704), ("in/b.wav", 8704),
    ]  # fmt: skip
    report = json.loads((folder / "checks.json").read_text())
    assert {(finding["name"], finding["problem"]) for finding in report["findings"]} == {
        ("clipped.wav", "clipped"), ("short.wav", "short"), ("silent.wav", "silent"),
        ("twin.wav", "duplicate"), ("zero.wav", "unreadable"),
    }  # fmt: skip
    assert report["summary"][0] == "3 of 7 files can be used, 0.0 minutes"
    assert any("twin.wav (same audio as a.wav)" in line for line in report["summary"])
    samples, _ = soundfile.read(music / "a.wav", dtype="float32")
    wanted = encode_audio(own, samples[:13184], [0, 1, 2])
    found = read_codes(folder / index.songs[0].codes).levels
    for level in range(3):
        np.testing.assert_array_equal(found[level], wanted[level])
    assert len(CodeWindows(folder, level=2, context=32)) == 103 // 32 + 2 * (68 // 32)


def test_a_song_is_encoded_once(own: CodecSpec, music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = encode(own, music, tmp_path / "codes")
    (folder / "songs.json").unlink()
    write(music / "a.wav", 0.25, 9)
    counted: list[int] = []
    monkeypatch.setattr("stages.sound.encode.encode_audio", lambda *args: counted.append(1) or encode_audio(*args))
    encode(own, music, folder)
    assert len(counted) == 2  # the one that changed, and its twin, which is no duplicate now


def test_codes_are_never_replaced_by_those_of_other_recordings(own: CodecSpec, music: Path, tmp_path: Path) -> None:
    folder = encode(own, music, tmp_path / "codes")
    before = content(folder)
    write(tmp_path / "other" / "a.wav", 0.3, 7)
    other = scan_songs(tmp_path / "other")
    for work in (
        lambda: encode_songs(own, CHECKS, other, folder),
        lambda: check_songs(CHECKS, other, RATE, folder),
        lambda: check_codes_folder(folder, source_of(scan_songs(music), "0" * 64), scan_songs(music)),
    ):
        with pytest.raises(ConfigError, match="nothing is overwritten: choose another folder"):
            work()
    (folder / ".source.json").unlink()  # as earlier versions left it
    with pytest.raises(ConfigError, match=r"songs\.json names other recordings, such as 'clipped\.wav'"):
        encode_songs(own, CHECKS, other, folder)
    assert content(folder) == {name: data for name, data in before.items() if name != ".source.json"}
    encode(own, music, folder)
    assert content(folder) == before
    (tmp_path / "link").symlink_to(music)
    with pytest.raises(ConfigError, match="give codes a folder of their own"):
        encode(own, music, tmp_path / "link")
    music.rename(tmp_path / "moved")
    with pytest.raises(ConfigError, match="if the recordings were only moved"):
        encode(own, tmp_path / "moved", folder)
    assert source_of_codes(folder).audio == str(music)
    (folder / ".source.json").unlink()
    assert source_of_codes(folder).audio == str(folder)
    encode(own, tmp_path / "moved", folder)


def test_whole_codes_of_an_edited_recording_are_kept(own: CodecSpec, music: Path, tmp_path: Path) -> None:
    folder = encode(own, music, tmp_path / "codes")
    before = content(folder)
    write(music / "a.wav", 0.25, 9)
    for _ in range(2):
        [edited, *_] = read_index(encode(own, music, folder)).songs
        assert re.fullmatch(r"a\.wav\.[0-9a-f]{8}\.npz", edited.codes)
    after = content(folder)
    assert {name for name in before if before[name] != after[name]} == {"checks.json", "songs.json"}
    write(music / "a.wav", 0.3, 1)
    assert encode(own, music, folder)
    assert content(folder) == after | {name: before[name] for name in ("checks.json", "songs.json")}
    (folder / "a.wav.npz").write_bytes(b"damaged")
    encode(own, music, folder)
    assert content(folder) == after | {name: before[name] for name in ("checks.json", "songs.json")}


def test_a_full_disk_is_an_error_and_leaves_no_partial_file(
    own: CodecSpec, music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "codes"
    real = np.savez_compressed
    written: list[int] = []

    def savez(file: Any, **arrays: Any) -> None:
        if written:
            file.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(1)
        real(file, **arrays)

    monkeypatch.setattr("jukebox_core.tokens.codes.np.savez_compressed", savez)
    with pytest.raises(StoreError, match="the disk is full; 1 of 7 songs are encoded and kept: make room and run"):
        encode(own, music, folder)
    assert [path.name for path in folder.rglob("[!.]*") if path.is_file()] == ["a.wav.npz"]
    monkeypatch.undo()
    assert len(read_index(encode(own, music, folder)).songs) == 3


def test_too_little_free_space_is_an_error_before_encoding(
    own: CodecSpec, music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(StoreError, match=r"need about [\d.]+ kB, but .* has 1\.0 kB free; make room"):
        encode(own, music, tmp_path / "codes")


def test_folders_without_usable_songs_are_refused(own: CodecSpec, music: Path, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"1 of 7 files .* cannot be read, more than the allowed share of 0.1"):
        check_songs(CheckConfig(shortest_seconds=0.1), scan_songs(music), RATE, tmp_path / "report")
    with pytest.raises(AudioError, match=r"none of 7 files .*; 6 short: .*a.wav \(0.30 s, shorter than 6 s\)"):
        check_songs(CheckConfig(most_unreadable=1.0), scan_songs(music), RATE, tmp_path / "report")
    assert (tmp_path / "report" / "checks.json").is_file()
    with pytest.raises(ConfigError, match="most_unreadable is 2"):
        CheckConfig(most_unreadable=2)
    with pytest.raises(ConfigError, match="shortest_seconds is 0"):
        CheckConfig(shortest_seconds=0)


def test_labels_that_the_model_lacks_are_refused_with_near_misses(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mini = load_preset("mini")
    known = fetch_vocabularies(mini, WeightsConfig(folder=str(tmp_path)))

    def song(name: str, **more: str) -> Song:
        return Song(name=name, path=Path(name), **more)

    check_labels(mini, known, [song("a", artist="Organ", genre="waltz", lyrics="la la")])
    wrong = [song(str(number), artist="orgen") for number in range(5)]
    with pytest.raises(
        LabelError, match=r"(?s)^0: artist 'orgen' .*closest: 'organ'.*and 2 more songs\nto learn new .*$"
    ):
        check_labels(mini, known, wrong)
    with pytest.raises(LabelError, match=r"b: lyrics .* hold no character that the model knows"):
        check_labels(mini, known, [song("b", lyrics="+++")])
    with caplog.at_level("WARNING", logger="jukebox"):
        check_labels(mini, known, [song("c", lyrics="la + la")])
    assert "lyrics of 1 songs have characters that the model lacks, first c" in caplog.text


def test_new_labels_are_refused_with_the_override_that_adds_them(tmp_path: Path) -> None:
    mini = load_preset("mini")
    known = fetch_vocabularies(mini, WeightsConfig(folder=str(tmp_path)))
    songs = [
        Song(name="a", path=Path("a"), artist="My Band, Live", genre="waltz"),
        Song(name="b", path=Path("b"), artist="organ", genre="polka"),
        Song(name="c", path=Path("c"), artist="Duo"),
    ]
    with pytest.raises(LabelError) as caught:
        check_labels(mini, known, songs)
    overrides = shlex.split(str(caught.value).splitlines()[-1].partition("add ")[2])
    assert overrides == [r"+labels.artists={duo: null, my band\, live: null}", "+labels.genres={polka: null}"]
    settings = compose(FINETUNE, ["model=mini", f"data.audio={tmp_path}", *overrides])
    assert settings.labels == NewNames(artists={"duo": None, "my band, live": None}, genres={"polka": None})


@pytest.mark.parametrize("name", [b"caf\xe9.wav", b"x" * 250 + b".wav", b"line\nbreak.wav", b"\x1b[31mred.wav"])
def test_a_recording_of_any_name_is_encoded_and_learnt_from(own: CodecSpec, tmp_path: Path, name: bytes) -> None:
    write(tmp_path / "a.wav", 0.3)
    (tmp_path / "music").mkdir()
    (tmp_path / "a.wav").rename(tmp_path / "music" / os.fsdecode(name))
    songs = scan_songs(tmp_path / "music")
    made = encode_songs(own, CHECKS, songs, tmp_path / "codes")
    assert [song.name for song in read_index(made).songs] == [os.fsdecode(name)]
    assert len(CodeWindows(made, level=2, context=16)) > 0
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*.npz")}
    encode_songs(own, CHECKS, songs, tmp_path / "codes")
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*.npz")} == before
