"""Precision and batch size by memory: the choice fits, by the program's own estimate, and a larger one does not."""

from __future__ import annotations

import pytest

from jukebox_core.family import open_transcribing
from jukebox_core.models.presets import load_preset
from jukebox_core.runtime.config import HardwareConfig
from jukebox_core.runtime.precision import (
    GIB,
    USABLE,
    SamplingMemory,
    advise,
    advise_transcription,
    choose_dtype,
    max_batch_size,
)
from pipelines.cli import models
from pipelines.settings import hardware
from pipelines.settings.common import RunnerSettings
from pipelines.settings.compose import GENERATE, compose
from tests.helpers.paths import ROOT


def memory(model: str, **changes: object) -> SamplingMemory:
    preset = load_preset(model)
    return SamplingMemory(family=preset.opened, config=preset.config, levels=range(3), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["cuda", "cpu"])
@pytest.mark.parametrize("gibibytes", [8, 16, 24, 80])
def test_what_is_advised_fits_and_one_song_more_would_not(gibibytes: int, kind: str) -> None:
    taken, room = memory("1b_lyrics"), gibibytes * GIB * USABLE[kind]
    advice = advise(taken.family, taken.config, gibibytes, kind)
    assert advice.bytes == taken.bytes(advice.dtype, advice.batch) <= room
    assert advice.batch == 64 or taken.bytes(advice.dtype, advice.batch + 1) > room


def test_a_cpu_is_exact_while_that_fits_and_a_gpu_takes_half() -> None:
    taken = memory("5b_lyrics")
    assert [choose_dtype(taken, "cpu", size * GIB) for size in (64, 16, 12)] == ["float32", "bfloat16", "int8"]
    assert choose_dtype(taken, "cuda", 80 * GIB) == "bfloat16"
    assert choose_dtype(taken, "old cuda", 80 * GIB) == "float16"
    assert choose_dtype(taken, "cuda", 10 * GIB) == "int8"
    assert choose_dtype(taken, "cpu", 1) == "int8"  # refused later, with settings that fit


def test_networks_that_stay_in_memory_together_leave_less_room() -> None:
    def fitting(taken: SamplingMemory, free: float) -> int:
        return max_batch_size(free, 64, lambda count: taken.bytes("float32", count))

    apart = fitting(memory("1b_lyrics"), 20e9)
    assert 0 < fitting(memory("1b_lyrics", together=True), 20e9) < apart
    assert fitting(memory("1b_lyrics"), 1e9) == 0


def test_settings_say_a_precision_and_what_is_given_stays() -> None:
    assert compose(GENERATE, ["hardware.device=cpu"]).hardware.dtype == "float32"
    assert compose(GENERATE, ["hardware.dtype=bfloat16"]).hardware.dtype == "bfloat16"


def test_a_model_that_may_not_fit_is_looked_at_closely(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = 16 * GIB // 4096
    monkeypatch.setattr("os.sysconf", {"SC_PHYS_PAGES": pages, "SC_PAGE_SIZE": 4096}.__getitem__)
    large = ["model=5b_lyrics", "seconds=24", "hardware.device=cpu"]
    assert compose(GENERATE, large).hardware.dtype == "bfloat16"
    assert compose(GENERATE, ["hardware.device=cpu"]).hardware.dtype == "float32"


@pytest.mark.parametrize("batch", [7, 1])
def test_a_batch_is_what_fits_the_memory_that_is_free(
    batch: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "jukebox")
    taken, cpu = memory("mini"), HardwareConfig(device="cpu", dtype="float32")
    free = taken.bytes("float32", batch)
    monkeypatch.setattr("jukebox_core.runtime.device.free_memory", lambda _: free)
    assert hardware.with_batch(taken, cpu, 16, RunnerSettings()).batch_size == batch
    assert f"batch of {batch} of 16 samples; about " in caplog.text
    given = HardwareConfig(device="cpu", dtype="float32", batch_size=3)
    assert hardware.with_batch(taken, given, 16, RunnerSettings()) is given


def test_the_page_for_users_shows_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    models.run(["memory"])
    page = (ROOT / "docs" / "hardware.md").read_text(encoding="utf-8")
    assert f"$ jukebox models memory\n{capsys.readouterr().out}```" in page


def test_models_that_transcribe_have_a_table_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    models.run(["memory", "mini", "mt3", "mini_mt3", "mr_mt3"])
    lines = capsys.readouterr().out.splitlines()
    heads = [number for number, line in enumerate(lines) if line.startswith("MODEL")]
    assert [lines[number].split()[3] for number in heads] == ["HARDWARE.BATCH_SIZE", "TRANSCRIPTION.BATCH_SIZE"]
    assert "mt3       8 GB cuda   float32         16                        0.7 GB" in lines
    assert {line.split()[0] for line in lines[heads[1] + 1 :]} == {"mt3", "mini_mt3", "mr_mt3"}


def test_a_batch_of_segments_is_smaller_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    preset = load_preset("mt3")
    family = open_transcribing("mt3")
    usual = advise_transcription(family, preset.config, 8, "cpu")
    monkeypatch.setattr("jukebox_core.runtime.precision.GIB", usual.bytes / 8)
    short = advise_transcription(family, preset.config, 8, "cpu")
    assert 1 < short.batch < usual.batch
    assert short.bytes <= 0.8 * usual.bytes
    monkeypatch.setattr("jukebox_core.runtime.precision.GIB", 1)
    assert advise_transcription(family, preset.config, 8, "cpu").batch == 0


def test_cuda_and_auto_choose_the_same_precision_on_the_same_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_ACCELERATORS", ("/",))
    monkeypatch.setattr("jukebox_core.runtime.device.resolve_device", lambda _: "cuda")
    for gibibytes, kind, dtype in ((80, "cuda", "bfloat16"), (80, "old cuda", "float16")):
        monkeypatch.setattr(
            "jukebox_core.runtime.device.kind_and_memory", lambda _, found=(kind, gibibytes * GIB): found
        )
        chosen = {compose(GENERATE, [f"hardware={option}"]).hardware.dtype for option in ("auto", "cuda")}
        assert chosen == {dtype}
