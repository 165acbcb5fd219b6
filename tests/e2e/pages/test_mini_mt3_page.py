"""The embedded model that transcribes: its page shows what was measured with the shipped weights."""

from __future__ import annotations

import json

import pytest

from benchmarks.notes.held_out import SCORES, run, table
from jukebox_core.models.presets import load_preset
from tests.helpers.paths import ROOT

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
    assert result["means"]["composed"]["onset"] > 0.1
    assert "string quartet" in table(result)
