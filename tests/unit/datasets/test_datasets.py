from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
from torch.utils.data import DataLoader

from jukebox_core.audio.files import read_audio
from jukebox_core.datasets.clips import AudioClips, blend
from jukebox_core.datasets.songs import Song, scan_songs, select_split, write_metadata
from jukebox_core.datasets.windows import CodesIndex, CodeWindows, EncodedSong, read_index, write_index
from jukebox_core.errors import AudioError, ConfigError, StoreError
from jukebox_core.tokens.codes import Codes, write_codes

if TYPE_CHECKING:
    from pathlib import Path

RATE = 8000
ABOUT = {"model": "own", "vqvae_sha256": "0" * 64, "sample_rate": RATE, "hops": [8, 32, 128]}


def write_song(path: Path, seconds: float, rate: int = RATE, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, (round(seconds * rate), 2))
    soundfile.write(path, noise, rate, **({"subtype": "FLOAT"} if path.suffix == ".wav" else {}))


def write_songs(folder: Path, *seconds: float) -> list[Song]:
    for number, length in enumerate(seconds):
        write_song(folder / f"{number}.wav", length, seed=number)
    return scan_songs(folder)


def test_audio_files_without_metadata_are_unknown_songs(tmp_path: Path) -> None:
    for name in ("b.wav", "deep/er/a.FLAC", "c.ogg", "d.mp3"):
        write_song(tmp_path / name, 0.2)
    (tmp_path / "notes.txt").write_text("no music")
    (tmp_path / ".hidden.wav").write_text("no music")
    songs = scan_songs(tmp_path)
    assert [song.name for song in songs] == ["b.wav", "c.ogg", "d.mp3", "deep/er/a.FLAC"]
    assert {(song.artist, song.genre, song.lyrics) for song in songs} == {("unknown", "unknown", "")}


def test_metadata_as_csv(tmp_path: Path) -> None:
    write_songs(tmp_path, 0.1, 0.1)
    (tmp_path / "metadata.csv").write_text('path,artist,lyrics\n1.wav,"Me, myself","one\ntwo"\n0.wav,,\n')
    first, second = scan_songs(tmp_path)
    assert (first.artist, first.lyrics) == ("unknown", "")
    assert (second.artist, second.genre, second.lyrics) == ("Me, myself", "unknown", "one\ntwo")


def test_metadata_as_json_lines_are_read_as_they_were_written(tmp_path: Path) -> None:
    songs = [
        Song(name=s.name, path=s.path, artist="organ", genre="folk", lyrics="la\nlá")
        for s in write_songs(tmp_path, 0.1, 0.1)
    ]
    write_metadata(tmp_path / "metadata.jsonl", songs)
    assert scan_songs(tmp_path) == songs
    (tmp_path / "metadata.jsonl").rename(tmp_path / "elsewhere.jsonl")
    assert scan_songs(tmp_path, tmp_path / "elsewhere.jsonl") == songs


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metadata.csv", "path,artits\n0.wav,x\n", "column 'artits'.*closest: 'artist'"),
        ("metadata.csv", "path,genre\n0.wav,folk\n9.wav,folk\n", "names 1 files .* first '9.wav'; closest: '0.wav'"),
        ("metadata.csv", "path,genre\n0.wav,folk,rock\n", "more fields than columns"),
        ("metadata.csv", "genre\nfolk\n", "has no path"),
        ("metadata.csv", "0.wav,organ,folk,la la\n", "'0.wav,organ,folk,la la', which has no path column; the first l"),
        ("metadata.csv", "0.wav,organ\n1.wav,drums\n", "the first line names the columns: path, and any of artist"),
        ("metadata.csv", "path;artist\n0.wav;organ\n", "with commas between them"),
        ("metadata.csv", "path,artist,artist\n0.wav,a,b\n", "names a column twice"),
        ("metadata.csv", "path,artits\n", "column 'artits'.*closest: 'artist'"),
        ("metadata.csv", "", "has no path column"),
        ("metadata.csv", "path,artist\n0.wav,\0\n", "write it without NUL"),
        ("metadata.csv", f"path,lyrics\n0.wav,{'la' * 99999}\n", "is not CSV .field larger"),
        ("metadata.jsonl", '{"path": "0.wav", "artist": "\\ud800"}\n', "write it without NUL and halves"),
        ("metadata.jsonl", '{"path": "0.wav", "artist": ' + "[" * 100_000 + "\n", "metadata.jsonl:1 is not JSON"),
        ("metadata.jsonl", '{"path": "0.wav", "artist": ' + "9" * 5000 + "}\n", "metadata.jsonl:1 is not JSON"),
        ("metadata.csv", "path,genre\n0.wav,a\n0.wav,b\n", "'0.wav' a second time"),
        ("metadata.jsonl", '{"path": "0.wav"\n', "metadata.jsonl:1 is not JSON"),
        ("metadata.jsonl", '\n["0.wav"]\n', "metadata.jsonl:2 is .*one object a line"),
        ("metadata.jsonl", '{"path": "0.wav", "lyrics": 3}\n', "lyrics is 3; it must be text"),
    ],
)
def test_malformed_metadata_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    write_songs(tmp_path, 0.1)
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        scan_songs(tmp_path)


def test_a_folder_without_music_and_two_metadata_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no \.wav"):
        scan_songs(tmp_path)
    with pytest.raises(ConfigError, match="is not a folder"):
        scan_songs(tmp_path / "none")
    write_songs(tmp_path, 0.1)
    for name in ("metadata.csv", "metadata.jsonl"):
        (tmp_path / name).write_text("")
    with pytest.raises(ConfigError, match="holds both"):
        scan_songs(tmp_path)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "latin"])
def test_a_metadata_file_is_a_text_file(tmp_path: Path, kind: str) -> None:
    write_songs(tmp_path, 0.1)
    file = tmp_path / "data.csv"
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "device":
        file.symlink_to("/dev/zero")
    elif kind == "folder":
        file.mkdir()
    else:
        file.write_bytes("path,artist\n0.wav,Bj\xf6rk\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"data\.csv cannot be read: .*(regular file|a folder|save it as UTF-8)"):
        scan_songs(tmp_path, file)


def test_a_name_that_is_not_utf8_has_a_split_and_metadata(tmp_path: Path) -> None:
    write_songs(tmp_path, 0.1)
    odd = os.fsdecode(b"caf\xe9.wav")
    (tmp_path / "0.wav").rename(tmp_path / odd)
    write_metadata(tmp_path / "metadata.jsonl", [Song(name=odd, path=tmp_path / odd, artist="organ")])
    [song] = scan_songs(tmp_path)
    assert (song.name, song.artist) == (odd, "organ")
    assert len(select_split([song], "train", 0.5) + select_split([song], "validation", 0.5)) == 1


def test_a_song_keeps_its_split_when_others_are_added(tmp_path: Path) -> None:
    songs = [Song(name=f"{number}.wav", path=tmp_path) for number in range(1000)]
    held_out = select_split(songs, "validation", 0.1)
    assert 70 < len(held_out) < 130
    assert select_split(songs[::2], "validation", 0.1) == [song for song in held_out if song in songs[::2]]
    assert sorted(song.name for song in [*held_out, *select_split(songs, "train", 0.1)]) == sorted(
        s.name for s in songs
    )
    assert select_split(songs, "all", 0.1) == songs
    with pytest.raises(ConfigError, match="validation is 1"):
        select_split(songs, "train", 1)


def test_clips_do_not_overlap_and_equal_the_file(tmp_path: Path) -> None:
    songs = write_songs(tmp_path, 1.0, 0.3, 2.6)
    clips = AudioClips(songs, seconds=0.5, sample_rate=RATE, channels=1, seed=0, augment=False)
    assert [song.name for song in clips.left_out] == ["1.wav"]
    assert [(clip.song, clip.start) for clip in map(clips.__getitem__, range(len(clips)))] == [
        (0, 0), (0, 4000), (2, 0), (2, 4000), (2, 8000), (2, 12000), (2, 16000),
    ]  # fmt: skip
    clip = clips[3]
    whole = read_audio(songs[2].path, rate=RATE)
    assert clip.total == len(whole) == 20800
    assert clip.audio_TC.shape == (4000, 1)
    np.testing.assert_array_equal(clip.audio_TC[:, 0].numpy(), whole[4000:8000])


@pytest.mark.parametrize("rate", [8000, 11025, 44100])
def test_clips_of_every_epoch_are_full_and_repeatable(tmp_path: Path, rate: int) -> None:
    songs = write_songs(tmp_path, 1.0001, 0.77)
    first, again = (
        AudioClips(songs, seconds=0.25, sample_rate=rate, channels=2, seed=5, augment=True) for _ in range(2)
    )
    starts = set()
    for index in range(8 * len(first)):
        clip = first[index]
        assert clip.audio_TC.shape == (int(0.25 * rate), 2)
        assert 0 <= clip.start <= clip.total - len(clip.audio_TC)
        starts.add((clip.song, clip.start))
        if index % 7 == 0:
            np.testing.assert_array_equal(again[index].audio_TC.numpy(), clip.audio_TC.numpy())
    assert len(starts) > 6 * len(first)


def test_workers_read_what_one_process_reads(tmp_path: Path) -> None:
    songs = write_songs(tmp_path, 1.0, 0.8)
    clips = AudioClips(songs, seconds=0.25, sample_rate=RATE, channels=1, seed=5, augment=True)
    numbers = [3, 0, 40, 6, 2]
    loader = DataLoader(clips, batch_size=None, sampler=numbers, num_workers=2)
    for clip, number in zip(loader, numbers, strict=True):
        np.testing.assert_array_equal(clip.audio_TC.numpy(), clips[number].audio_TC.numpy())


def test_channels_are_blended() -> None:
    stereo = np.random.default_rng(0).uniform(-1, 1, (100, 2)).astype(np.float32)
    np.testing.assert_array_equal(blend(stereo, 2, None), stereo)
    np.testing.assert_array_equal(blend(stereo, 2, 0.0), stereo[:, ::-1])
    np.testing.assert_allclose(blend(stereo, 1, None)[:, 0], stereo.mean(axis=1), atol=1e-7)
    np.testing.assert_allclose(blend(stereo, 1, 0.25)[:, 0], 0.25 * stereo[:, 0] + 0.75 * stereo[:, 1], atol=1e-7)
    np.testing.assert_array_equal(blend(stereo[:, :1], 2, 0.3), np.repeat(stereo[:, :1], 2, axis=1))


def test_invalid_clips_are_refused(tmp_path: Path) -> None:
    songs = write_songs(tmp_path, 0.5)
    with pytest.raises(ConfigError, match=r"none of 1 songs is as long as a clip of 1 s, the longest lasts 0\.50 s"):
        AudioClips(songs, seconds=1, sample_rate=RATE, channels=1, seed=0, augment=False)
    with pytest.raises(ConfigError, match="channels is 3"):
        AudioClips(songs, seconds=1, sample_rate=RATE, channels=3, seed=0, augment=False)
    songs[0].path.write_text("no sound")
    with pytest.raises(AudioError, match="is not audio"):
        AudioClips(songs, seconds=0.1, sample_rate=RATE, channels=1, seed=0, augment=False)


def write_folder(folder: Path, *tops: int) -> list[dict[int, np.ndarray]]:
    """Songs of these many top-level tokens."""
    rng = np.random.default_rng(0)
    all_codes, songs = [], []
    for number, top in enumerate(tops):
        codes = {level: rng.integers(0, 2048, top * 4 ** (2 - level)).astype(np.int32) for level in range(3)}
        write_codes(folder / f"{number}.npz", Codes(codes, ABOUT))
        all_codes.append(codes)
        songs.append(
            EncodedSong(
                name=f"{number}.wav",
                codes=f"{number}.npz",
                samples=top * 128,
                artist="a",
                genre="g",
                lyrics=f"{number}",
            )
        )
    write_index(folder, CodesIndex(ABOUT, songs))
    return all_codes


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize(("level", "context"), [(2, 16), (1, 16), (0, 64)])
def test_windows_hold_a_songs_codes_and_those_above(tmp_path: Path, level: int, context: int, augment: bool) -> None:
    codes = write_folder(tmp_path, 40, 3, 57)
    windows = CodeWindows(tmp_path, level=level, context=context, seed=3, augment=augment)
    assert len(windows) == sum(top * 4 ** (2 - level) // context for top in (40, 3, 57))
    for index in range(3 * len(windows)):
        window = windows[index]
        song = codes[int(window.lyrics)]
        stop = window.start_tokens + context
        assert stop <= window.total_tokens == len(song[level])
        np.testing.assert_array_equal(window.codes_T.numpy(), song[level][window.start_tokens : stop])
        if level == 2:
            assert window.upper_T is None
        else:
            assert window.upper_T is not None
            assert window.start_tokens % 4 == 0
            np.testing.assert_array_equal(window.upper_T.numpy(), song[level + 1][window.start_tokens // 4 : stop // 4])


def test_a_share_of_the_windows_are_the_first_of_their_songs(tmp_path: Path) -> None:
    codes = write_folder(tmp_path, 40, 57)
    counts = {}
    for share in (0.0, 0.5, 1.0):
        windows = CodeWindows(tmp_path, level=2, context=16, seed=3, augment=True, first_share=share)
        drawn = [windows[index] for index in range(200)]
        counts[share] = sum(window.start_tokens == 0 for window in drawn)
        for window in drawn:
            song = codes[int(window.lyrics)][2]
            np.testing.assert_array_equal(window.codes_T.numpy(), song[window.start_tokens : window.start_tokens + 16])
    assert counts[1.0] == 200
    assert counts[0.0] + 60 < counts[0.5] < 140


def test_windows_of_both_splits_are_all_windows(tmp_path: Path) -> None:
    write_folder(tmp_path, *[20] * 30)
    names = {
        split: {song.name for song in CodeWindows(tmp_path, level=2, context=8, split=split, validation=0.3).songs}
        for split in ("train", "validation", "all")
    }
    assert names["train"] | names["validation"] == names["all"]
    assert not names["train"] & names["validation"]


def test_codes_that_cannot_be_read_any_more_are_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_folder(tmp_path, *[20] * 6)
    windows = CodeWindows(tmp_path, level=2, context=8, most_unreadable=0.4)
    (tmp_path / "0.npz").write_bytes(b"half of a file")
    (tmp_path / "4.npz").unlink()
    assert {windows[index].lyrics for index in range(len(windows))} == {"1", "2", "3", "5"}
    assert caplog.text.count("is skipped, others are taken in its place") == 2
    (tmp_path / "1.npz").unlink()
    again = CodeWindows(tmp_path, level=2, context=8, most_unreadable=0.4)
    with pytest.raises(StoreError, match=r"3 of 6 songs can no longer be read, more than the allowed share of 0\.4"):
        [again[index] for index in range(len(again))]


def test_unusable_folders_of_codes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no finished folder of codes; `jukebox dataset` makes one"):
        read_index(tmp_path)
    write_folder(tmp_path, 20)
    with pytest.raises(ConfigError, match="full context of 32 tokens at level 2, the longest has 20"):
        CodeWindows(tmp_path, level=2, context=32)
    with pytest.raises(ConfigError, match="level is 3"):
        CodeWindows(tmp_path, level=3, context=32)
    with pytest.raises(ConfigError, match="not a multiple of the 4 tokens"):
        CodeWindows(tmp_path, level=1, context=30)
    write_codes(tmp_path / "0.npz", Codes({2: np.zeros(20, np.int32)}, ABOUT | {"model": "other"}))
    with pytest.raises(StoreError, match="encoded by another model"):
        CodeWindows(tmp_path, level=2, context=16)[0]
    index = json.loads((tmp_path / "songs.json").read_text())
    del index["songs"][0]["samples"]
    (tmp_path / "songs.json").write_text(json.dumps(index))
    with pytest.raises(StoreError, match="samples is missing"):
        read_index(tmp_path)
