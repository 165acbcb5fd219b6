"""The embedded model that transcribes: its page shows what was measured with the shipped weights."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from benchmarks.notes import coded_songs, of_mini
from benchmarks.notes.held_out import SCORES, run, table
from jukebox_core import load_model
from jukebox_core.evaluation.notes import evaluate
from jukebox_core.models.presets import load_preset
from jukebox_core.notes.notes import read_notes
from tests.helpers.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PAGE = ROOT / "docs" / "mini_mt3.md"


def test_the_page_shows_the_recorded_run_of_the_shipped_weights() -> None:
    page = PAGE.read_text(encoding="utf-8")
    [recorded] = [json.loads(line) for line in page.splitlines() if line.startswith("{")]
    spec = load_preset("mini_mt3").files.weights["transcriber"]
    assert spec.sha256 is not None
    assert recorded["weights"] == spec.sha256[:16]
    assert recorded["songs"] == 48
    for means in recorded["means"].values():
        for name in SCORES:
            assert f"{means[name]:.2f}" in page, name


def test_the_embedded_weights_are_small() -> None:
    files = [*(ROOT / "jukebox_core" / "data" / "mini_mt3").glob("*.safetensors")]
    assert len(files) == 1
    assert files[0].stat().st_size < 6_000_000


@pytest.mark.slow
def test_a_held_out_song_is_measured() -> None:
    result = run("mini_mt3", 1, 6.0, codec=True)
    assert set(result["means"]) == {"composed", "codec"}
    # Notes are matched within 50 ms: an empty or a random transcription scores 0 to 0.03.
    assert result["means"]["composed"]["onset"] > 0.6
    assert "string quartet" in table(result)


@pytest.mark.slow
@pytest.mark.endurance
def test_songs_after_the_codec_have_their_notes_and_are_made_once(tmp_path: Path) -> None:
    arguments = ["--songs", "1", "--seconds", "6", "--folder", str(tmp_path)]
    coded_songs.main(arguments)
    [audio, midi] = sorted(tmp_path.iterdir(), key=lambda path: path.suffix, reverse=True)
    assert (audio.suffix, midi.suffix, audio.stem) == (".wav", ".mid", midi.stem)
    written = audio.stat().st_mtime_ns
    coded_songs.main(arguments)
    assert audio.stat().st_mtime_ns == written
    # They are heard as the notes beside them.
    heard = load_model("mini_mt3").transcribe(audio)
    assert evaluate(read_notes(midi), heard).onset.f1 > 0.5


@pytest.mark.slow
@pytest.mark.endurance
def test_notes_of_mini_are_described_beside_the_composer_s() -> None:
    written, heard, mini = of_mini.run(1, 4.0)
    assert [row["of"] for row in (written, heard, mini)] == [
        "the composer's notes",
        "heard in its songs",
        "heard in mini's",
    ]
    assert heard["notes_per_second"] == pytest.approx(written["notes_per_second"], rel=0.5)
    assert mini["notes_per_second"] > 1
