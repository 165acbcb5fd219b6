"""The benchmarks run, on a small model, and their figures are plausible."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks import durability, flat, gpu, sound
from benchmarks.full_size import ALLOWED, FORMATS
from tests.helpers.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def last_line(*arguments: str) -> Any:
    process = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=500
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.endurance
def test_full_size_measures_every_role_and_leaves_nothing_behind(tmp_path: Path) -> None:
    result = last_line("benchmarks.full_size", "--model", "mini", "--new", "4", "--scratch", str(tmp_path))
    rows = result["rows"]
    assert [(row["role"], row["format"]) for row in rows] == [
        (role, form) for role in ("vqvae", "level_0", "level_1", "level_2") for form in FORMATS
    ]
    assert all(row["weights_right"] for row in rows)
    assert all(row["sampled"] == 4 and row["tokens_per_s"] > 0 for row in rows[2:])
    assert all(row["loaded"]["peak"] <= row["used"]["peak"] for row in rows)
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
def test_the_cost_of_durability_is_measured(tmp_path: Path) -> None:
    cost = durability.storing(tmp_path, seconds=2.0)
    assert cost["stores"] > 2
    assert 0 < cost["share_stores"] < cost["share"] + 1e-9 < 0.1
    speed = durability.throughput(tmp_path, windows=32)
    assert speed["read_windows_per_s"] > speed["seal_windows_per_s"] > 1
    song = durability.long_song(tmp_path / "long")
    assert song["windows"] == 16 * 1203
    assert song["manifest_mb"] < 5


@pytest.mark.slow
@pytest.mark.endurance
def test_speed_is_measured_with_its_lower_bound() -> None:
    result = last_line(
        *("benchmarks.fast", "--model", "mini", "--no-peer", "--parts", "top", "--batches", "1", "3", "--steps", "4"),
        *("--rounds", "1", "--prefill", "32", "--engines", "eager:float32", "native:int8"),
    )
    found = {(row["work"], row["batch"], row["engine"]): row for row in result["rows"]}
    assert len(found) == 6
    for (work, _, _), row in found.items():
        assert row["tokens_per_s"] > 0
        assert (row["share_of_floor"] is not None) == (work == "decode")


@pytest.mark.slow
def test_transcription_is_measured_in_turns_with_the_original_way() -> None:
    result = last_line(
        *("benchmarks.transcribe", "--seconds", "8", "--tokens", "6", "--layers", "1", "--threads", "1"),
        *("--turns", "1", "--ways", "cache", "float32", "int8"),
    )
    rows = {row["way"]: row for row in result["rows"]}
    assert list(rows) == ["original", "cache", "float32", "int8"]
    assert rows["original"]["wall_ratio"] == 1.0
    assert all(row["same_ids"] == 1.0 for name, row in rows.items() if name != "int8")
    assert all(row["cpu_s"] > 0 < row["floor_s"] for row in rows.values())
    assert result["segment"]["original_flop"] > result["segment"]["decoder_flop"]


@pytest.mark.slow
@pytest.mark.endurance
def test_the_memory_of_a_transcription_is_measured_by_length() -> None:
    result = last_line("benchmarks.transcribe.memory", "--minutes", "0.5", "3", "--threads", "1")
    short, long = (row["peak_mb"] for row in result["rows"])
    assert long < short + 100  # three minutes are 16 MB of samples alone, and as much again in every copy


@pytest.mark.slow
@pytest.mark.endurance
def test_variations_are_measured_in_turns_with_the_original_way() -> None:
    result = last_line(
        *("benchmarks.vamp", "--layers", "1", "--threads", "1", "--turns", "1", "--items", "2"),
        *("--ways", "float32", "int8"),
    )
    rows = result["rows"]
    assert list(rows) == ["original", "float32", "float32, batch of 2", "int8", "int8, batch of 2"]
    assert rows["original"]["faster"] == rows["original"]["of_alone"] == 1.0
    assert all(row["wall"] > 0 < row["cpu"] for row in rows.values())


@pytest.mark.slow
@pytest.mark.endurance
def test_the_memory_of_a_variation_is_measured_beside_its_estimate() -> None:
    result = last_line("benchmarks.vamp.memory", "--layers", "4", "--ways", "float32", "int8")
    assert [row["role"] for row in result["rows"]] == ["coarse", "coarse", "c2f", "c2f"]
    for whole, small in zip(result["rows"][::2], result["rows"][1::2], strict=True):
        assert small["held"] < whole["held"] - 100e6, "weights of 262 MB are converted to 66 MB, and freed"
    assert all(row["held"] <= row["peak"] for row in result["rows"])
    assert all(0.5 < row["peak"] / row["estimate"] < 1.5 for row in result["rows"])


@pytest.mark.slow
@pytest.mark.endurance
def test_sound_is_measured() -> None:
    result = last_line("benchmarks.sound", "--seconds", "0.5", "--above", "16", "--turns", "1", "--no-peer")
    assert [row["work"] for row in result["rows"]] == list(sound.WORKS)
    assert all(row["ours_s"] > 0 and row["share"] is None for row in result["rows"])
    assert all(rate > 0 for rate in result["matmul_flop_per_s"].values())


@pytest.mark.slow
def test_the_cost_of_a_token_is_measured_at_every_position() -> None:
    result = last_line("benchmarks.flat", "--parts", "song", "--rounds", "2")
    (row,) = result["rows"]
    assert [*row["ms"]] == [str(minute) for minute in flat.MINUTES]
    assert row["apart"] >= abs(row["first_to_last"]) / 2


@pytest.mark.slow
@pytest.mark.endurance
def test_the_gpu_benchmark_runs_on_any_device() -> None:
    """On a small model and the CPU: all rows that the table and the sums need."""
    result = gpu.run(
        "cpu", ("eager:float32",), seconds=6.0, within=(1e9, 0.0), model="mini", batches=[1, 2], steps=2, rounds=1,
        prefill=16, peer=False,
    )  # fmt: skip
    decoded = [(row["part"], row["batch"]) for row in result["rows"] if row["work"] == "decode"]
    assert decoded == [(name, batch) for name, *_ in gpu.WORKS for batch in (1, 2)]
    assert result["steps_s"]["eager:float32 x1"] > 0
    assert [row["level"] for row in result["music"]] == [2, 1, 0]
    for row in result["music"]:  # the time sufficed for one window only
        assert row["sampled"] == 1024
        assert row["whole_s"] == pytest.approx(row["s"] * row["tokens"] / 1024)


@pytest.mark.slow
@pytest.mark.endurance
def test_the_look_for_numbers_that_are_not_finite_is_measured(tmp_path: Path) -> None:
    result = last_line(
        "benchmarks.finite", "--models", "mini", "--rounds", "1", "--count", "128", "--scratch", str(tmp_path)
    )
    assert [row["what"] for row in result["rows"]] == [*["loading", "first start"] * 2, "steps", "steps"]
    assert all(row["spread"][0] <= row["share"] <= row["spread"][1] for row in result["rows"] if row["what"] == "steps")
    assert 0 < result["rows"][4]["share"] < 1
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
@pytest.mark.endurance
def test_start_up_is_measured_with_the_time_to_read_the_file(tmp_path: Path) -> None:
    result = last_line(
        "benchmarks.start", "--model", "mini", "--least", "0", "--dtypes", "int8", "--rounds", "1", "--known", "8",
        "--new", "2", "--scratch", str(tmp_path),
    )  # fmt: skip
    (row,) = result["rows"]
    assert all(row[f"{kind}_{name}_s"] > 0 for kind in ("cold", "warm") for name in ("ready", "read"))
    assert row["base"]["peak"] < row["loaded"]["peak"] <= row["used"]["peak"]
    assert not [*tmp_path.iterdir()]


def test_the_recorded_run_meets_its_bound_and_is_what_the_page_shows() -> None:
    page = (ROOT / "docs" / "full_size.md").read_text(encoding="utf-8")
    recorded = [json.loads(line) for line in page.splitlines() if line.startswith("{")]
    assert recorded
    for row in (row for result in recorded for row in result["rows"]):
        assert row["weights_right"]
        if row["role"] != "vqvae":
            assert row["load_peak_share_over_base"] <= ALLOWED
            # With Python and torch themselves, where the weights are not so small that these weigh more than the rule.
            assert row["load_peak_share"] <= ALLOWED or row["dtype"] != "float32"
            assert abs(row["estimate_share"] - 1) < 0.15


@pytest.mark.slow
@pytest.mark.endurance
def test_mini_is_measured_on_held_out_songs(tmp_path: Path) -> None:
    result = last_line(
        "benchmarks.mini", "--songs", "3", "--generated", "2", "--seconds", "3",
        "--pictures", str(tmp_path / "pictures"), "--audio", str(tmp_path / "audio"), "--ogg", str(tmp_path / "ogg"),
    )  # fmt: skip
    assert [row["level"] for row in result["reconstruction"]] == [0, 1, 2]
    assert all(0 < row["codebook_use"] <= 1 for row in result["reconstruction"])
    rates = [row["bits_a_second"] for row in result["reconstruction"]]
    assert rates == sorted(rates, reverse=True)
    # The entropy given the previous code is below that of single codes.
    assert 0 < result["prior"]["bigram_entropy"] < result["prior"]["unigram_entropy"] < 9
    assert {row["right"] for row in result["conditioning"]} >= {"artist", "genre"}
    rows = {row["of"]: row for row in result["music"]}
    songs, noise = rows["composed"], rows["chance: white noise"]
    assert songs["level_db"] == pytest.approx(-20, abs=4)
    assert songs["tempo_of_genre"] == 1
    assert songs["right_words"] is None, "three seconds hold too few words to compare"
    assert songs["between_partials_db"] < rows["codec, level 0"]["between_partials_db"] < noise["between_partials_db"]
    assert {"generated", "generated, all at 0.99"} < rows.keys()
    assert len([*(tmp_path / "pictures").glob("*.png")]) == 5
    assert len([*(tmp_path / "audio").glob("*.wav")]) == 4
    assert [path.stat().st_size < 3 * 6000 for path in (tmp_path / "ogg").glob("*.ogg")] == [True, True]


def test_the_figures_on_the_page_of_mini_were_measured() -> None:
    page = (ROOT / "docs" / "mini.md").read_text(encoding="utf-8")
    [recorded] = [json.loads(line) for line in page.splitlines() if line.startswith("{")]
    assert [row["level"] for row in recorded["reconstruction"]] == [0, 1, 2]
    for row in recorded["reconstruction"]:
        assert row["codebook_use"] >= 0.8
        assert row["si_sdr"] > row["mu_law_si_sdr"] > row["untrained_si_sdr"]
        assert row["spectral"] < row["mu_law_spectral"] < row["untrained_spectral"]
        shown = f"| **{row['si_sdr']:.1f}** |"
        assert shown.replace("-", "\N{MINUS SIGN}") in page
    prior = recorded["prior"]
    assert prior["bits"] < prior["bigram_entropy"] < prior["bigram_of_training"] < prior["unigram_of_training"]
    rows = {row["of"]: row for row in recorded["music"]}
    assert rows["composed"]["tempo_of_genre"] == rows["composed"]["right_words"] == 1
    for name in ("generated", "generated, all at 0.99"):
        assert abs(rows[name]["level_db"] - rows["composed"]["level_db"]) < 3
        assert rows[name]["clipped_share"] == 0
        for key in ("beat_strength", "key_fit"):
            assert f"{rows[name][key]:.2f}" in page
    for value in (prior["bits"], prior["bigram_of_training"]):
        assert f"{value:.2f}" in page


@pytest.mark.slow
def test_graphs_are_measured() -> None:
    result = last_line(
        *("benchmarks.onnx", "--model", "mini_mt3", "--graphs", "start", "--dtypes", "float32", "--threads", "1")
    )
    [row] = result["rows"]
    assert row["error"] <= 1e-4
    assert row["megabytes"] < 1
    assert row["torch_ms"] > 0 < row["onnx_ms"]


@pytest.mark.slow
@pytest.mark.endurance
def test_the_page_of_composers_is_measured() -> None:
    result = last_line("benchmarks.everyday.web", "--seconds", "2", "--rounds", "1", "--runs", "3")
    for clicks in (result["first_click"], result["later_clicks"]):
        assert 0 < clicks["answered"] <= clicks["sound"]
    assert result["runs"] == 5  # the two songs, and three copies
    assert all(took > 0 for took in result["pages_s"].values())
