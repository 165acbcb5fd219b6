"""Text files of users: what may never end, is too large, or is no text is refused at once."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jukebox_core.base.text_files import TEXT_BYTES, UnreadableError, read_text
from jukebox_core.errors import JukeboxError
from jukebox_core.families.jukebox.conditioning.song import Song

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECONDS = 20


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    def late(*_: object) -> None:
        raise AssertionError("it waits for ever")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def big(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(50 * TEXT_BYTES)


REFUSED: list[tuple[Callable[[Path], object], str]] = [
    (os.mkfifo, "it is no regular file; give a file, not a folder, pipe or device"),
    (lambda path: path.symlink_to("/dev/zero"), "it is no regular file"),
    (lambda path: path.symlink_to(path.name), "Too many levels of symbolic links"),
    (Path.mkdir, "it is a folder; name a file in it"),
    (big, "it is larger than 1.0 MB; give the text alone, in a smaller file"),
    (lambda path: path.write_bytes("schön".encode("latin-1")), "save it as UTF-8"),
    (lambda _: None, "No such file or directory"),
]


@pytest.mark.parametrize(("make", "reason"), REFUSED, ids=[reason[:20] for _, reason in REFUSED])
def test_what_is_no_text_is_refused_at_once(tmp_path: Path, make: Callable[[Path], object], reason: str) -> None:
    path = tmp_path / "words.txt"
    make(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UnreadableError, match=reason):
        read_text(path)
    with pytest.raises(JukeboxError, match=rf"words\.txt cannot be read as text: .*{reason}"):
        Song(lyrics_file=str(path)).read_lyrics()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000, "kB: it is not read to its end"


def test_text_is_that_of_any_editor(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_bytes("\ufeffdü\r\ndi\rdum\n".encode())
    assert read_text(tmp_path / "words.txt") == "dü\ndi\ndum\n"
    assert read_text(tmp_path / "words.txt", most=17)
    with pytest.raises(UnreadableError, match="it is larger than"):
        read_text(tmp_path / "words.txt", most=13)
