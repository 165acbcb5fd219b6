"""The commands of the page on datasets make a folder of codes; mistakes stop them with one line."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from jukebox_core.datasets.songs import AUDIO_SUFFIXES, scan_songs
from jukebox_core.datasets.windows import CodeWindows, read_index
from tests.helpers.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PAGE = ROOT / "docs" / "datasets.md"


def jukebox(folder: Path, prefect: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    own = {"HOME": str(folder), "PREFECT_API_URL": prefect, "NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "pipelines.cli.main", *arguments],
        cwd=folder,
        env={**os.environ, **own, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.slow
def test_the_page_leads_to_a_folder_of_codes(tmp_path: Path, prefect_api: str) -> None:
    [*blocks] = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    commands = [shlex.split(line) for line in "".join(blocks).splitlines()]
    assert [words[:2] for words in commands] == [["jukebox", "compose"], *[["jukebox", "dataset"]] * 2]
    for words in commands:
        done = jukebox(tmp_path, prefect_api, *words[1:])
        assert done.returncode == 0, done.stderr
    assert "12 of 12 files can be used, 1.7 minutes" in done.stderr
    assert len(scan_songs(tmp_path / "songs")) == 12
    index = read_index(tmp_path / "codes")
    assert index.about["model"] == "mini"
    assert {song.genre for song in index.songs} <= {"folk", "waltz", "march", "blues", "chorale", "dance"}
    window = CodeWindows(tmp_path / "codes", level=2, context=128)[0]
    assert window.lyrics in {song.lyrics for song in index.songs}
    assert sorted(path.name for path in (tmp_path / "look").iterdir()) == [
        ".source.json",
        "checks.json",
        "dataset.log",
    ]


@pytest.mark.slow
def test_each_mistake_is_one_clear_line(tmp_path: Path, prefect_api: str) -> None:
    (tmp_path / "empty").mkdir()
    done = jukebox(tmp_path, prefect_api, "dataset", "audio=empty")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"jukebox: empty holds no {', '.join(AUDIO_SUFFIXES)} file; add audio files, or name their folder"
    ]
    assert jukebox(tmp_path, prefect_api, "compose", "songs=1", "seconds=4", "folder=music").returncode == 0
    (tmp_path / "music" / "metadata.jsonl").write_text(
        '{"path": "NAME", "genre": "walz"}\n'.replace("NAME", next((tmp_path / "music").glob("*.wav")).name)
    )
    done = jukebox(tmp_path, prefect_api, "dataset", "audio=music", "folder=codes", "encode=false")
    assert done.returncode == 2
    *_, refused, remedy = done.stderr.splitlines()
    assert "genre 'walz' is not among the 7 v3 genres; closest: 'waltz'" in refused
    assert remedy == "jukebox: to learn new names, add '+labels.genres={walz: null}'"
    assert not (tmp_path / "codes" / "songs.json").exists()
