"""Priors are prepared once: the kept copy gives the same prior, and a damaged one is made again."""

from __future__ import annotations

import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import torch

from jukebox_core import models
from jukebox_core.errors import CheckpointError
from jukebox_core.families.jukebox.checkpoints import prepared
from jukebox_core.families.jukebox.checkpoints.prepared import Source, sampling_prior
from jukebox_core.models.checkpoints.prepared import prepared_files
from jukebox_core.models.config import WeightsConfig
from jukebox_core.models.presets import load_preset
from jukebox_core.models.resolve import obtain_weights
from tests.helpers.models.own_model import write_own_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from jukebox_core.families.jukebox.model.prior import Prior

CPU = torch.device("cpu")
KINDS = [(d, e) for e in ("native", "eager") for d in ("float32", "bfloat16", "int8")]
MAKES = pytest.mark.parametrize(("dtype", "engine"), [kind for kind in KINDS if kind != ("float32", "eager")])


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(prepared, "MIN_BYTES", 0)
    return tmp_path / "weights"


@pytest.fixture
def load(library: Path, tmp_path: Path) -> Callable[..., Prior]:
    model = load_preset(write_own_model(tmp_path / "model"))
    files = obtain_weights(model, WeightsConfig(folder=str(library)))

    def loaded(level: int = 2, dtype: str = "int8", engine: str = "native", kept_in: Path | None = library) -> Prior:
        found = files[f"level_{level}"]
        source = Source(found.path, found.identity, kept_in)
        return sampling_prior(model.config, level, source, device=CPU, dtype=dtype, engine=engine)

    return loaded


def assert_equal(one: Prior, other: Prior) -> None:
    tensors = [prior.state_dict(keep_vars=True) for prior in (one, other)]
    assert [*tensors[0]] == [*tensors[1]]
    for mine, theirs in zip(tensors[0].values(), tensors[1].values(), strict=True):
        assert (mine.dtype, mine.stride(), mine.requires_grad) == (theirs.dtype, theirs.stride(), False)
        assert torch.equal(mine, theirs)
    assert (one.output.weight is one.body.embedding.weight) == (other.output.weight is other.body.embedding.weight)
    assert one.compute_dtype is other.compute_dtype
    inputs = torch.randn(1, 3, one.config.transformer.width, generator=torch.Generator().manual_seed(0))
    assert torch.equal(steps(one, inputs), steps(other, inputs))


@torch.inference_mode()
def steps(prior: Prior, inputs_BTW: torch.Tensor) -> torch.Tensor:
    transformer = prior.body.transformer
    cache = transformer.new_cache(1, dtype=prior.compute_dtype, device=CPU)
    parts = [transformer.extend(each.to(prior.compute_dtype), cache) for each in inputs_BTW.split(1, dim=1)]
    return torch.cat(parts, dim=1)


@MAKES
@pytest.mark.parametrize("level", [0, 2])
def test_the_second_start_reads_what_the_first_one_made(
    load: Callable[..., Prior], library: Path, monkeypatch: pytest.MonkeyPatch, level: int, dtype: str, engine: str
) -> None:
    plain = load(level, dtype, engine, kept_in=None)
    assert not prepared_files(library)
    assert_equal(load(level, dtype, engine), plain)
    assert len(prepared_files(library)) == 1
    monkeypatch.setattr(prepared, "load_prior", None)  # nothing is converted any more
    assert_equal(load(level, dtype, engine), plain)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux has /proc")
def test_tables_of_labels_stay_in_the_file(load: Callable[..., Prior], library: Path) -> None:
    load()
    prior = load()
    (kept,) = prepared_files(library)
    assert prior.labels is not None
    mapped = [line.split() for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()]
    ranges = [[int(end, 16) for end in line[0].split("-")] for line in mapped if line[-1] == str(kept)]
    for table in (prior.labels.artist.weight, prior.labels.genre.weight):
        assert any(begin <= table.data_ptr() < end for begin, end in ranges)
    assert not any(begin <= prior.body.position_PW.data_ptr() < end for begin, end in ranges)


def test_a_copy_that_would_load_no_faster_is_not_kept(
    load: Callable[..., Prior], library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(dtype="float32", engine="eager")  # as the file has it
    monkeypatch.setattr(prepared, "MIN_BYTES", 10**9)
    load()
    assert not prepared_files(library)


def _shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _change(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _leave_the_name(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [_shorten, _change, _leave_the_name])
def test_a_damaged_copy_is_made_again(
    load: Callable[..., Prior], library: Path, damage: Callable[[Path], None]
) -> None:
    plain = load()
    (kept,) = prepared_files(library)
    sound = kept.read_bytes()
    damage(kept)
    assert_equal(load(), plain)
    assert kept.read_bytes() == sound
    assert not [*kept.parent.glob("*.tmp")]


def test_a_copy_of_another_module_is_made_again(
    load: Callable[..., Prior], library: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain = load()
    (kept,) = prepared_files(library)
    sound = kept.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(prepared, "read_into", _refuse)
        load()
    assert caplog.text.count("is not of this module; it is made again") == 1
    assert kept.read_bytes() == sound
    assert_equal(load(), plain)


def _refuse(*_: object, **__: object) -> None:
    raise CheckpointError("this is not of this module")


def test_a_new_layout_replaces_the_old_one(
    load: Callable[..., Prior], library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load()
    load(dtype="bfloat16")
    old = prepared_files(library)
    monkeypatch.setattr(prepared, "_layout", lambda: "new")
    load()
    assert {path.name.split("-", 1)[1] for path in prepared_files(library)} == {
        "int8-packed-new.safetensors",
        next(path.name.split("-", 1)[1] for path in old if "bfloat16" in path.name),
    }


@pytest.mark.parametrize("full", [True, False], ids=["no room", "no right to write"])
def test_without_room_for_a_copy_a_warning_is_logged_and_the_prior_is_loaded(
    load: Callable[..., Prior],
    library: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    full: bool,
) -> None:
    plain = load(kept_in=None)
    if full:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=900_000_000))
    else:
        (library / "prepared").write_text("a file where a folder should be")
    with caplog.at_level(logging.WARNING):
        assert_equal(load(), plain)
    assert len(caplog.records) == 1
    assert not prepared_files(library)


def test_it_is_listed_and_goes_with_its_weights_or_alone(
    library: Path, tmp_path: Path, load: Callable[..., Prior], capsys: pytest.CaptureFixture[str]
) -> None:
    from pipelines.cli.models import run

    weights, own = WeightsConfig(folder=str(library)), str(tmp_path / "model" / "own.yaml")
    load(2)
    load(1)
    run(["list", f"weights.folder={library}"])
    assert "in 2 files, hold weights as they sample; models rm prepared frees them" in capsys.readouterr().out
    models.remove(["mini"], weights)
    assert len(prepared_files(library)) == 2
    removed, _ = models.remove([own], replace(weights))
    assert len(removed) == 2
    assert not prepared_files(library)
    load(2)
    run(["rm", "prepared", f"weights.folder={library}"])
    assert "removed" in capsys.readouterr().out
    assert not [*(library / "prepared").iterdir()]
    load(2)
