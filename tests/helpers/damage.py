"""Damage to files, of every kind that a disk, a kill or a user may do to them."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

KINDS = (
    "flip", "truncate", "empty", "null", "list", "number", "text", "numbers", "nested", "surrogate", "binary", "folder",
    "full folder", "pipe", "link", "dangling link", "loop", "device", "missing",
)  # fmt: skip
CONTENT = {
    "empty": b"",
    "null": b"null",
    "list": b"[]",
    "number": b"5",
    "text": b'"text"',
    "numbers": b'{"schema": 1, "identity": 5, "run": 5, "songs": 5, "takes": "x", "windows": {}, "storage": 5}',
    "nested": b"[" * 100_000,
    "surrogate": b'{"schema": 1, "status": "\\ud800\\u001b[31m"}',
    "binary": bytes(range(256)),
}


def damage(path: Path, kind: str, at: int = 0) -> None:
    """Damages the file `path`; `at` chooses the byte where that matters."""
    data = path.read_bytes()
    path.unlink()
    if kind == "flip":
        spot = at % max(len(data), 1)
        path.write_bytes(data[:spot] + bytes([data[spot] ^ 1 << at % 8]) + data[spot + 1 :] if data else b"?")
    elif kind == "truncate":
        path.write_bytes(data[: at % max(len(data), 1)])
    elif kind in CONTENT:
        path.write_bytes(CONTENT[kind])
    elif kind == "folder":
        path.mkdir()
    elif kind == "full folder":
        path.mkdir()
        (path / "other").write_bytes(data)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        aside = path.with_name(f"{path.name}.moved")
        aside.write_bytes(data)
        path.symlink_to(aside.absolute())
    elif kind == "dangling link":
        path.symlink_to("nowhere")
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        assert kind == "missing", kind


def content(folder: Path) -> dict[str, bytes]:
    """Every regular file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def restore(folder: Path, original: Path) -> None:
    """Replaces a folder by a copy of another one."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(original, folder)
