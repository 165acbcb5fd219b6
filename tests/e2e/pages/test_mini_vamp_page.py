"""The embedded model that varies recordings: its page shows what was measured with the shipped weights."""

from __future__ import annotations

import json

import pytest

from benchmarks.variations.held_out import run, table
from jukebox_core.models.presets import load_preset
from tests.helpers.paths import ROOT

PAGE = ROOT / "docs" / "mini_vamp.md"
ROLES = ("codec", "coarse", "c2f")


def test_the_page_shows_the_recorded_run_of_the_shipped_weights() -> None:
    page = PAGE.read_text(encoding="utf-8")
    [recorded] = [json.loads(line) for line in page.splitlines() if line.startswith("{")]
    specs = load_preset("mini_vamp").files.weights
    assert recorded["weights"] == {role: (specs[role].sha256 or "")[:16] for role in ROLES}
    assert recorded["songs"] == 48
    for row in recorded["reconstruction"]:
        assert f"{row['bits_a_second']:,}" in page
        assert f"{row['si_sdr']:.1f}" in page
    for row in recorded.get("prediction", ()):  # measured later than the codec
        assert all(f"{row[name]:.2f}" in page for name in ("bits", "unigram", "bigram")), row["role"]
    if "variation" in recorded:
        assert f"{recorded['variation']['chroma']:.2f}" in page


def test_the_embedded_weights_are_small() -> None:
    files = [*(ROOT / "jukebox_core" / "data" / "mini_vamp").glob("*.safetensors")]
    assert len(files) == len(ROLES)
    assert sum(file.stat().st_size for file in files) < 6_000_000


@pytest.mark.slow
def test_a_held_out_song_is_measured() -> None:
    result = run("mini_vamp", 2, 5.0)
    ours, mini = result["reconstruction"]
    assert ours["bits_a_second"] <= mini["bits_a_second"]
    assert ours["si_sdr"] > 15  # an untrained codec has less than 0
    assert all(row["bits"] < 8 for row in result["prediction"])  # 8 is a guess
    assert "SI-SDR" in table(result)
