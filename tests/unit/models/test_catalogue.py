"""Sets of files: found where they are, listed, verified, removed, carried, converted; terms acknowledged."""

from __future__ import annotations

import io
import json
import pickle
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import torch

from jukebox_core import models
from jukebox_core.errors import CheckpointError, ConfigError, DownloadError
from jukebox_core.models import catalogue, library
from jukebox_core.models.checkpoints.checkpoint import open_checkpoint
from jukebox_core.models.config import WeightsConfig
from jukebox_core.models.digests import read_records
from jukebox_core.models.licence import acknowledgement
from jukebox_core.models.presets import load_preset
from jukebox_core.models.resolve import obtain_weights
from pipelines import licence_prompt as prompt
from tests.helpers.models.small_entries import CONTENT, PATHS, checkpoint, config
from tests.helpers.servers.servers import Site, serving

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("plain_fetches")


def test_aliases_mean_models_and_all_means_every_one() -> None:
    assert catalogue.aliases() == {"small": "1b_lyrics", "best": "5b_lyrics"}
    assert catalogue.resolve(["best", "5b_lyrics", "mini"]) == ["5b_lyrics", "mini"]
    assert catalogue.resolve(["all"]) == ["1b_lyrics", "5b", "5b_lyrics", "mini"]
    with pytest.raises(ConfigError, match="closest: 'small'"):
        catalogue.resolve(["smalll"])


def test_shared_files_are_named_once_and_every_entry_says_what_it_is_for() -> None:
    wanted = {each.path: each for each in catalogue._unique(["all"], WeightsConfig(folder="/w"))}
    assert len(wanted) == 16  # 4 of them mini's weights
    assert all(each.spec.purpose for each in wanted.values())
    assert all(each.spec.bytes or each.spec.about_bytes for each in wanted.values())
    listed = {each.name: each for each in models.listing(WeightsConfig(folder="/nowhere"))}
    assert listed["1b_lyrics"].bytes == pytest.approx(11.6e9, rel=0.01)
    assert listed["5b"].bytes == pytest.approx(18.1e9, rel=0.01)
    assert listed["5b_lyrics"].bytes == pytest.approx(19.3e9, rel=0.01)


def test_a_set_is_fetched_past_a_dead_source_listed_verified_and_removed(
    site: Site, tmp_path: Path, mine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = config(tmp_path)
    with pytest.raises(DownloadError, match="run: jukebox models fetch"):
        models.paths(mine, weights)
    found = models.fetch([mine], weights)
    assert {path: file.read_bytes() for path, file in found.items() if path in CONTENT} == CONTENT
    asked = len(site.requests)
    assert models.fetch([mine], weights) == found
    assert len(site.requests) == asked
    assert all(each.sha256 and not each.fault for each in models.check([mine], weights))
    damaged = found["5b/prior_level_1.pth.tar"]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
    faults = [each for each in models.check([mine], weights) if each.fault]
    assert [each.path for each in faults] == [damaged]
    assert "set aside as prior_level_1.pth.tar.damaged" in faults[0].fault
    assert not damaged.exists()
    removed, kept = models.remove([mine], weights)
    assert not kept
    assert len(removed) == 6  # one of them is what was set aside
    assert not [
        path for path in (tmp_path / "weights").rglob("*") if path.is_file() and path.suffix in (".tar", ".txt")
    ]


def test_nothing_is_fetched_before_the_terms_are_acknowledged_once(site: Site, tmp_path: Path, mine: str) -> None:
    weights = config(tmp_path, accept_licence=False)
    with pytest.raises(ConfigError, match=r"Mine \(all of it\).*weights\.accept_licence=true \(or JUKEBOX_ACCEPT"):
        models.fetch([mine], weights)
    assert not site.requests
    models.fetch([mine], replace(weights, accept_licence=True))
    noted = json.loads((tmp_path / "weights" / "licences.json").read_text())
    assert noted["mine"]["how"] == "weights.accept_licence=true"
    told = acknowledgement(load_preset(mine).files, weights)
    assert told == {
        "terms": "mine",
        "acknowledged": noted["mine"]["acknowledged"],
        "how": "weights.accept_licence=true",
    }
    models.remove([mine], weights)
    models.fetch([mine], weights)  # asked once


def test_a_run_is_told_when_and_how_terms_were_acknowledged_or_that_they_never_were(tmp_path: Path, mine: str) -> None:
    theirs = load_preset(mine).files
    never = acknowledgement(theirs, config(tmp_path, accept_licence=False))
    assert never == {"terms": "mine", "acknowledged": "", "how": "never: no file of the model was fetched"}
    now = acknowledgement(theirs, config(tmp_path))  # nothing is fetched, and yet it is said
    assert now is not None
    assert now["acknowledged"].startswith("20")
    assert acknowledgement(load_preset("mini").files, config(tmp_path)) is None


@pytest.mark.parametrize(("answer", "accepted"), [("yes\n", True), ("no\n", False), ("", False)])
def test_a_person_is_asked_at_a_terminal_and_a_program_never(
    tmp_path: Path, mine: str, monkeypatch: pytest.MonkeyPatch, answer: str, accepted: bool
) -> None:
    theirs, weights = load_preset(mine).files, config(tmp_path, accept_licence=False)
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
    prompt.ask(theirs, weights)  # not a terminal: neither waits nor complains
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True, readline=lambda: answer))
    screen = io.StringIO()
    screen.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", screen)
    if accepted:
        prompt.ask(theirs, weights)
        prompt.ask(theirs, weights)
    else:
        with pytest.raises(ConfigError, match="the terms were not accepted"):
            prompt.ask(theirs, weights)
    assert screen.getvalue().count("Mine (all of it)") == 1


def test_the_environment_acknowledges_too(tmp_path: Path, mine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUKEBOX_ACCEPT_LICENCE", "1")
    assert models.fetch([mine], config(tmp_path, accept_licence=False))


def test_files_of_other_programs_are_used_in_place(site: Site, tmp_path: Path, mine: str) -> None:
    theirs = tmp_path / "cache" / "jukebox" / "models"
    for path, content in CONTENT.items():
        (theirs / path).parent.mkdir(parents=True, exist_ok=True)
        (theirs / path).write_bytes(content)
    (theirs / PATHS["level_0"]).write_bytes(b"half a file")  # the original leaves one under its final name
    (theirs / PATHS["vqvae"]).write_bytes(CONTENT[PATHS["vqvae"]][::-1])
    weights = config(tmp_path, elsewhere=(str(theirs),), pickles="keep")
    before = sorted(theirs.rglob("*"))
    with pytest.raises(DownloadError, match="as published"):
        obtain_weights(load_preset(mine), weights, meters=None)
    (theirs / PATHS["vqvae"]).write_bytes(CONTENT[PATHS["vqvae"]])
    model = load_preset(mine)
    found = obtain_weights(model, weights, meters=None)
    assert found["level_2"].path == theirs / PATHS["level_2"]
    assert found["level_0"].path == tmp_path / "weights" / PATHS["level_0"]
    assert sorted(theirs.rglob("*")) == before
    assert models.remove([mine], weights)[0] == [tmp_path / "weights" / PATHS["level_0"]]
    assert sorted(theirs.rglob("*")) == before


def test_a_file_of_ones_own_takes_a_role(tmp_path: Path, mine: str, site: Site) -> None:
    own = tmp_path / "tuned.pth.tar"
    own.write_bytes(checkpoint(77))
    model, weights = load_preset(mine), config(tmp_path, paths={"level_2": str(own)})
    found = obtain_weights(model, weights, roles=("level_2",), meters=None)
    assert found["level_2"].path == own
    own.write_bytes(checkpoint(78))  # trained further: new content is no damage
    assert obtain_weights(model, weights, roles=("level_2",), meters=None) != found
    assert not site.requests
    with pytest.raises(ConfigError, match=r"weights\.paths\.level2 is no file of a model.*closest: 'level_2'"):
        obtain_weights(model, config(tmp_path, paths={"level2": "x"}), meters=None)
    with pytest.raises(DownloadError, match=r"weights\.paths\.level_2 is .*gone, but there is no such file"):
        obtain_weights(model, config(tmp_path, paths={"level_2": "/gone"}), meters=None)


@pytest.mark.parametrize("variable", [True, False])
def test_offline_lists_everything_that_is_missing(
    site: Site, tmp_path: Path, mine: str, variable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError) as caught:
        models.fetch([mine], config(tmp_path, offline=not variable))
    assert "6 files are not on this machine; put them at these paths, or bring them with" in str(caught.value)
    assert all(f"  {tmp_path}/weights/{path} (" in str(caught.value) for path in CONTENT)
    assert not site.requests
    for path in [*list(CONTENT)[:3], "ids/a.txt", "ids/g.txt"]:
        (tmp_path / "weights" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "weights" / path).write_bytes(site.files[path])
    with pytest.raises(DownloadError, match=r"1 file is not on this machine; put it at this path, or bring it with"):
        models.fetch([mine], config(tmp_path, offline=not variable))


def test_the_whole_set_must_fit_before_the_first_byte(
    site: Site, tmp_path: Path, mine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 2 * sum(map(len, CONTENT.values())) + 8  # a safetensors copy of each, and two vocabularies of 4 bytes
    monkeypatch.setattr(library.shutil, "disk_usage", lambda _: SimpleNamespace(free=needed - 1))
    with pytest.raises(DownloadError, match=r"6 files need .* free; nothing was fetched: make room"):
        models.fetch([mine], config(tmp_path))
    assert not site.requests
    monkeypatch.setattr(library.shutil, "disk_usage", lambda _: SimpleNamespace(free=needed))
    assert models.fetch([mine], config(tmp_path))


def test_a_set_is_carried_to_a_machine_without_network(site: Site, tmp_path: Path, mine: str) -> None:
    here, there, stick = config(tmp_path), config(tmp_path / "there", offline=True), tmp_path / "stick"
    with pytest.raises(DownloadError, match="cannot be exported; fetch it first"):
        models.export([mine], stick, here)
    models.fetch([mine], here)
    assert len(models.export([mine], stick, here)) == 6
    site.files.clear()
    with pytest.raises(ConfigError, match="is no export"):
        models.import_(tmp_path, there)
    with pytest.raises(ConfigError, match="holds none of the files of mini"):
        models.import_(stick, there, ["mini"])
    carried = stick / PATHS["level_0"]
    content = carried.read_bytes()
    carried.write_bytes(content[::-1])
    with pytest.raises(DownloadError, match="sent a file with sha256"):
        models.import_(stick, there, [mine])
    carried.write_bytes(content)
    assert len(models.import_(stick, there, [mine])) == 6
    assert models.fetch([mine], there)
    assert models.fetch([mine], config(tmp_path / "mirrored", offline=True, mirrors=(str(stick),)))


@pytest.mark.parametrize("pickles", ["keep", "convert", "replace"])
def test_pickles_are_converted_once(site: Site, tmp_path: Path, mine: str, pickles: str) -> None:
    model, weights = load_preset(mine), config(tmp_path, pickles=pickles)
    assert models.prepare(mine, weights, meters=None)
    found = obtain_weights(model, weights, meters=None)["level_1"]
    original = tmp_path / "weights" / PATHS["level_1"]
    assert original.exists() == (pickles != "replace")
    assert found.path.suffix == (".tar" if pickles == "keep" else ".safetensors")
    opened = open_checkpoint(found.path)
    stored = torch.load(io.BytesIO(CONTENT[PATHS["level_1"]]), weights_only=True)
    assert set(opened.tensors) == set(stored["model"])
    assert all(torch.equal(opened.tensors[name], stored["model"][name]) for name in stored["model"])
    assert (opened.step, opened.metadata["level"], opened.own_names) == (9, 2, False)
    asked, written = len(site.requests), found.path.stat().st_mtime_ns
    site.files.clear()
    assert obtain_weights(model, weights, meters=None)["level_1"] == found
    assert (len(site.requests), found.path.stat().st_mtime_ns) == (asked, written)
    assert models.paths(mine, weights)["level_1"] == found.path
    assert all(not each.fault for each in models.check([mine], weights))


class _Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code ran",)


def test_a_pickle_with_code_is_set_aside_and_not_run(
    site: Site, tmp_path: Path, mine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = pickle.dumps(_Trap(), protocol=2)
    site.files[PATHS["level_2"]] = evil + b"\0" * (len(CONTENT[PATHS["level_2"]]) - len(evil))
    model = load_preset(mine)
    with pytest.raises(CheckpointError, match=r"was set aside as prior_level_2\.pth\.tar\.damaged"):
        obtain_weights(model, config(tmp_path), meters=None)
    target = tmp_path / "weights" / PATHS["level_2"]
    assert not target.exists()
    assert target.with_name("prior_level_2.pth.tar.damaged").exists()
    assert "code ran" not in capsys.readouterr().out


def test_a_substitute_is_kept_apart_and_the_published_never_mixed_with_it(
    site: Site, tmp_path: Path, mine: str
) -> None:
    with serving({path: checkpoint(50 + i) for i, path in enumerate(CONTENT)}) as other:
        model, weights = load_preset(mine), config(tmp_path, substitute=other.url, pickles="keep")
        theirs = obtain_weights(model, weights, meters=None)
        ours = obtain_weights(model, replace(weights, substitute=None), meters=None)
    assert not {file.path for file in theirs.values()} & {file.path for file in ours.values()}
    assert theirs["vqvae"].sha256 != ours["vqvae"].sha256 == model.files.weights["vqvae"].sha256
    assert "5b/vqvae.pth.tar" in read_records(tmp_path / "weights")


def test_shared_files_of_a_model_that_is_here_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = config(tmp_path)
    monkeypatch.setattr(
        catalogue, "_if_whole", lambda model, w: list(catalogue.wanted(model, w).values()) if model.name == "5b" else []
    )
    for each in catalogue._unique(["5b", "1b_lyrics"], weights):
        each.path.parent.mkdir(parents=True, exist_ok=True)
        each.path.write_bytes(b"x")
    removed, kept = models.remove(["1b_lyrics"], weights)
    assert {path.name for path in removed} == {"prior_level_2.pth.tar", "v3_artist_ids.txt", "v3_genre_ids.txt"}
    assert {path.name for path in kept} >= {"vqvae.pth.tar", "prior_level_0.pth.tar", "prior_level_1.pth.tar"}
