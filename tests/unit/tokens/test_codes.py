"""Codes files: what is written is read; whatever else has that name is one clear error, in bounded memory and time."""

from __future__ import annotations

import io
import json
import os
import random
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest

from jukebox_core.errors import DiskError, StoreError
from jukebox_core.tokens import codes
from jukebox_core.tokens.codes import Codes, read_codes, write_codes
from tests.helpers.small_files import small_files

if TYPE_CHECKING:
    from pathlib import Path

SONG = Codes({0: np.arange(2000, dtype=np.int32) % 2048, 2: np.arange(6, dtype=np.int32).reshape(2, 3)}, {"model": "x"})


def npy(array: object) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(array), allow_pickle=True)
    return file.getvalue()


def archive(path: Path, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in {"about": npy(json.dumps({"model": "x"})), **entries}.items():
            made.writestr(f"{name}.npy", content)
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_codes(tmp_path / "a.npz", SONG)
    found = read_codes(tmp_path / "a.npz")
    assert found.about == SONG.about
    assert {level: tokens.tolist() for level, tokens in found.levels.items()} == {
        level: tokens.tolist() for level, tokens in SONG.levels.items()
    }
    assert found.levels[0].dtype == np.int32
    found.levels[0][0] = 1  # writable
    write_codes(tmp_path / "b.npz", SONG)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_files_of_numpy_itself_are_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", about=np.array("{}"), level_1=np.asfortranarray(np.arange(6).reshape(2, 3)))
    assert read_codes(tmp_path / "a.npz").levels[1].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_any_damage_is_an_error_or_the_same_codes(tmp_path: Path) -> None:
    """200 files with one bit flipped or a part cut off: no other exception, and no other tokens."""
    chance, path = random.Random(11), tmp_path / "a.npz"
    write_codes(path, SONG)
    whole = path.read_bytes()
    for _ in range(200):
        data = bytearray(whole)
        if chance.random() < 0.7:
            bit = chance.randrange(8 * len(data))
            data[bit // 8] ^= 1 << bit % 8
        else:
            del data[chance.randrange(len(data)) :]
        path.write_bytes(data)
        try:
            found = read_codes(path)
        except StoreError:
            continue
        for level, tokens in found.levels.items():
            np.testing.assert_array_equal(tokens, SONG.levels[level])


@pytest.mark.parametrize(
    "content",
    [
        {"level_0": npy(np.zeros(4))},
        {"level_0": npy(np.array(["text"]))},
        {"level_0": npy(np.array([{"a": 1}], dtype=object))},
        {"level_0": npy(np.zeros((2, 2, 2), np.int32))},
        {"level_0": npy(np.zeros(4, np.int32))[:-3]},
        {"level_0": npy(np.zeros(4, np.int32)).replace(b"(4,)", b"(9,)")},
        {"level_0": npy(np.zeros(4, np.int32)).replace(b"(4,)", b"(-1,)")},
        {"level_0": b""},
        {"about": npy(5)},
        {"about": npy("[1]")},
        {"about": npy("[" * 100_000)},
        {"about": b"\x93NUMPY\x09\x00"},
    ],
)
def test_other_content_is_one_clear_error(content: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"a.npz is not a codes file"):
        read_codes(archive(tmp_path / "a.npz", **content))


def test_a_file_that_unpacks_to_much_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = npy(np.zeros(3_000_000, np.uint8))
    path = archive(tmp_path / "a.npz", level_0=bomb, level_1=bomb, level_2=bomb, level_3=bomb)
    assert path.stat().st_size < 50_000
    monkeypatch.setattr(zipfile.ZipFile, "open", None)
    monkeypatch.setattr(codes, "LIMIT_BYTES", 4_000_000)
    with pytest.raises(StoreError, match="12 MB of codes, more than the 4 MB"):
        read_codes(path)


def test_more_than_is_read_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codes, "LIMIT_BYTES", 8000)
    with pytest.raises(StoreError, match="give a shorter recording"):
        write_codes(tmp_path / "a.npz", SONG)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "nothing", "text", "array"])
def test_what_is_no_archive_is_named_at_once(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "text":
        path.write_text("codes")
    elif kind == "array":
        path.write_bytes(npy(np.zeros(4)))
    with pytest.raises(StoreError, match=r"a.npz (is not a|does not exist)"):
        read_codes(path)


def test_a_full_disk_is_one_clear_error(tmp_path: Path) -> None:
    with small_files(100), pytest.raises(DiskError, match="cannot be written"):
        write_codes(tmp_path / "a.npz", SONG)
    assert not [*tmp_path.iterdir()]
