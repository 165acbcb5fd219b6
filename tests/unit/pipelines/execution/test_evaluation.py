"""What `evaluate` says of folders of notes and of runs: means over pieces, or statistics without a reference."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jukebox_core.errors import ConfigError, NotesError
from jukebox_core.notes.note import Note
from jukebox_core.notes.notes import Notes
from pipelines.execution.evaluation import report
from pipelines.settings.compose import EVALUATE, compose
from tests.helpers.fake_runs import add_songs, fake_run

MUSIC = Notes.of([Note(0, 1, 60), Note(1, 2, 62, 90, 33), Note(0.5, 0.51, 36, 90, 0, is_drum=True)])


def evaluated(root: Path, **options: object) -> str:
    return report(compose(EVALUATE, [f"storage.root={root}", *(f"{name}={value}" for name, value in options.items())]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Right notes in a folder, and found ones in another: those of one piece are right, one of another is missing."""
    for name, notes in (("a", MUSIC), ("deep/b", Notes.of(MUSIC[1:]))):
        for kind in ("right", "found"):
            (tmp_path / kind / name).parent.mkdir(parents=True, exist_ok=True)
        MUSIC.to_midi(tmp_path / f"right/{name}.mid")
        notes.to_json(tmp_path / f"found/{name}.json")
    (tmp_path / "right/album.json").write_text("{}")
    return tmp_path


def test_pieces_of_folders_are_paired_by_name(folder: Path) -> None:
    lines = evaluated(folder, reference=folder / "right", estimate=folder / "found").splitlines()
    assert lines[0] == "means over 2 pieces"
    assert lines[2].split() == ["onset", "1.000", "0.750", "0.833"]
    assert lines[-1].split() == ["deep/b", "0.667", "0.667", "1.000", "0.800"]
    asked = {"reference": folder / "right", "estimate": folder / "found", "json": True}
    found = json.loads(evaluated(folder, **asked))
    assert set(found["pieces"]) == {"a", "deep/b"}
    assert found["mean"]["onset"]["recall"] == 0.75


def test_a_piece_without_a_reference_is_named(folder: Path) -> None:
    (folder / "right/deep/b.mid").unlink()
    with pytest.raises(ConfigError, match=r"has no notes called deep/b\.json or deep/b\.mid"):
        evaluated(folder, reference=folder / "right", estimate=folder / "found")


def test_without_a_reference_notes_are_described(folder: Path) -> None:
    table = evaluated(folder, estimate=folder / "found")
    assert table.splitlines()[0].split() == ["mean", "of", "2", "a", "deep/b"]
    assert [line.split()[-3:] for line in table.splitlines() if line.startswith("notes  ")] == [["2.50", "3", "2"]]
    found = json.loads(evaluated(folder, estimate=folder / "found/a.json", json=True))
    assert (found["pieces"]["a"]["drums"], found["pieces"]["a"]["tempo"]) == (1, None)


def test_a_run_is_known_by_its_transcripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    add_songs(fake_run("sketch", "seconds=1", "sampling=top_only"), (2,), (2, 1))
    for name in ("sketch", "outputs/sketch"):
        with pytest.raises(ConfigError, match=r"transcribe it first: jukebox transcribe audio=\["):
            evaluated(Path("outputs"), estimate=name)
    Path("outputs/transcripts/sketch").mkdir(parents=True)
    for index in range(2):
        MUSIC.to_json(f"outputs/transcripts/sketch/sample_{index}.json")
    assert evaluated(Path("outputs"), estimate="sketch").splitlines()[0].split()[-2:] == ["sample_0", "sample_1"]


def test_a_folder_without_notes_and_a_missing_file_are_refused(folder: Path) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(ConfigError, match="holds no notes"):
        evaluated(folder, estimate=folder / "empty")
    with pytest.raises(NotesError, match=r"none\.mid cannot be read"):
        evaluated(folder, estimate=folder / "none.mid")
    with pytest.raises(ConfigError, match="estimate is empty"):
        evaluated(folder, estimate="''")
