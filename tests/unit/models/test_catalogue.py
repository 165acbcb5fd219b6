"""The catalogue: models are found, listed, verified, removed, carried, converted; terms are acknowledged."""

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
from jukebox_core.models import catalogue, library, records
from jukebox_core.models.checkpoints.checkpoint import open_checkpoint
from jukebox_core.models.config import WeightsConfig
from jukebox_core.models.licence import acknowledgement
from jukebox_core.models.presets import load_preset
from jukebox_core.models.records import Records
from jukebox_core.models.resolve import obtain_weights, wanted_files
from pipelines import licence_prompt as prompt
from tests.helpers.models.small_entries import CONTENT, PATHS, checkpoint, config
from tests.helpers.servers.servers import Site, serving

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("plain_fetches")


TRANSCRIBERS = ["mr_mt3", "mr_mt3_0", "mr_mt3_32", "mt3", "yourmt3"]  # with a published file


def test_aliases_mean_models_and_all_means_every_one() -> None:
    assert catalogue.aliases() == {
        "small": "1b_lyrics", "best": "5b_lyrics", "fast": "mt3", "accurate": "yourmt3",
    }  # fmt: skip
    assert catalogue.resolve(["fast", "mr_mt3", "mt3"]) == ["mt3", "mr_mt3"]
    assert catalogue.resolve(["best", "5b_lyrics", "mini"]) == ["5b_lyrics", "mini"]
    assert catalogue.resolve(["all"]) == sorted(
        ["1b_lyrics", "5b", "5b_lyrics", "mini", "mini_mt3", "mini_vamp", *TRANSCRIBERS, "vampnet"]
    )
    with pytest.raises(ConfigError, match="closest: 'small'"):
        catalogue.resolve(["smalll"])


def test_shared_files_are_listed_once_and_every_entry_has_a_purpose() -> None:
    wanted = {each.path: each for each in catalogue._unique(["all"], WeightsConfig(folder="/w"))}
    assert len(wanted) == 28  # 4 of them mini's weights, 1 mini_mt3's, 3 mini_vamp's
    assert all(each.spec.purpose for each in wanted.values())
    unknown = {path.name for path, each in wanted.items() if not (each.spec.bytes or each.spec.about_bytes)}
    transcribers = {f"exp_segmemV2_prev_context={length}.ckpt" for length in (0, 32, 64)} | {"last.ckpt"}
    assert unknown == transcribers | {"codec.pth", "coarse.pth", "c2f.pth"}  # never published
    listed = {each.name: each for each in models.listing(WeightsConfig(folder="/nowhere"))}
    assert listed["1b_lyrics"].bytes == pytest.approx(11.6e9, rel=0.01)
    assert listed["5b"].bytes == pytest.approx(18.1e9, rel=0.01)
    assert listed["5b_lyrics"].bytes == pytest.approx(19.3e9, rel=0.01)
    assert {name for name, each in listed.items() if each.usable} == {"mini", "mini_mt3", "mini_vamp"}  # in the program
    assert listed["mini"].present == 0


def test_a_model_is_fetched_past_a_dead_source_listed_verified_and_removed(
    site: Site, tmp_path: Path, small_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = config(tmp_path)
    with pytest.raises(DownloadError, match="run: jukebox models fetch"):
        models.paths(small_model, weights)
    found = models.fetch([small_model], weights)
    assert {path: file.read_bytes() for path, file in found.items() if path in CONTENT} == CONTENT
    asked = len(site.requests)
    assert models.fetch([small_model], weights) == found
    assert len(site.requests) == asked
    assert all(each.sha256 and not each.fault for each in models.check([small_model], weights))
    damaged = found["5b/prior_level_1.pth.tar"]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
    faults = [each for each in models.check([small_model], weights) if each.fault]
    assert [each.path for each in faults] == [damaged]
    assert "set aside as prior_level_1.pth.tar.damaged" in faults[0].fault
    assert not damaged.exists()
    removed, kept = models.remove([small_model], weights)
    assert not kept
    assert len(removed) == 6  # one of them is the damaged file
    assert not [
        path for path in (tmp_path / "weights").rglob("*") if path.is_file() and path.suffix in (".tar", ".txt")
    ]


def test_nothing_is_fetched_before_the_terms_are_acknowledged_once(
    site: Site, tmp_path: Path, small_model: str
) -> None:
    weights = config(tmp_path, accept_licence=False)
    with pytest.raises(ConfigError, match=r"Mine \(all of it\).*weights\.accept_licence=true \(or JUKEBOX_ACCEPT"):
        models.fetch([small_model], weights)
    assert not site.requests
    models.fetch([small_model], replace(weights, accept_licence=True))
    noted = json.loads((tmp_path / "weights" / "licences.json").read_text())
    assert noted["mine"]["how"] == "weights.accept_licence=true"
    found = acknowledgement(load_preset(small_model).files, weights)
    assert found == {
        "terms": "mine",
        "acknowledged": noted["mine"]["acknowledged"],
        "how": "weights.accept_licence=true",
    }
    models.remove([small_model], weights)
    models.fetch([small_model], weights)  # asked once


def test_a_run_records_when_and_how_terms_were_acknowledged_or_that_they_never_were(
    tmp_path: Path, small_model: str
) -> None:
    theirs = load_preset(small_model).files
    never = acknowledgement(theirs, config(tmp_path, accept_licence=False))
    assert never == {"terms": "mine", "acknowledged": "", "how": "never: no file of the model was fetched"}
    now = acknowledgement(theirs, config(tmp_path))  # nothing is fetched, and yet it is said
    assert now is not None
    assert now["acknowledged"].startswith("20")
    assert acknowledgement(load_preset("mini").files, config(tmp_path)) is None


@pytest.mark.parametrize(("answer", "accepted"), [("yes\n", True), ("no\n", False), ("", False)])
def test_the_user_is_asked_at_a_terminal_and_a_program_never(
    tmp_path: Path, small_model: str, monkeypatch: pytest.MonkeyPatch, answer: str, accepted: bool
) -> None:
    theirs, weights = load_preset(small_model).files, config(tmp_path, accept_licence=False)
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


def test_the_environment_acknowledges_too(tmp_path: Path, small_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUKEBOX_ACCEPT_LICENCE", "1")
    assert models.fetch([small_model], config(tmp_path, accept_licence=False))


def test_files_of_other_programs_are_used_in_place(site: Site, tmp_path: Path, small_model: str) -> None:
    theirs = tmp_path / "cache" / "jukebox" / "models"
    for path, content in CONTENT.items():
        (theirs / path).parent.mkdir(parents=True, exist_ok=True)
        (theirs / path).write_bytes(content)
    (theirs / PATHS["level_0"]).write_bytes(b"half a file")  # the original leaves one under its final name
    (theirs / PATHS["vqvae"]).write_bytes(CONTENT[PATHS["vqvae"]][::-1])
    weights = config(tmp_path, elsewhere=(str(theirs),), pickles="keep")
    before = sorted(theirs.rglob("*"))
    with pytest.raises(DownloadError, match="as published"):
        obtain_weights(load_preset(small_model), weights)
    (theirs / PATHS["vqvae"]).write_bytes(CONTENT[PATHS["vqvae"]])
    model = load_preset(small_model)
    found = obtain_weights(model, weights)
    assert found["level_2"].path == theirs / PATHS["level_2"]
    assert found["level_0"].path == tmp_path / "weights" / PATHS["level_0"]
    assert sorted(theirs.rglob("*")) == before
    assert models.remove([small_model], weights)[0] == [tmp_path / "weights" / PATHS["level_0"]]
    assert sorted(theirs.rglob("*")) == before


def test_a_file_of_the_users_own_replaces_a_role(tmp_path: Path, small_model: str, site: Site) -> None:
    own = tmp_path / "tuned.pth.tar"
    own.write_bytes(checkpoint(77))
    model, weights = load_preset(small_model), config(tmp_path, paths={"level_2": str(own)})
    found = obtain_weights(model, weights, roles=("level_2",))
    assert found["level_2"].path == own
    own.write_bytes(checkpoint(78))  # trained further: new content is no damage
    assert obtain_weights(model, weights, roles=("level_2",)) != found
    assert not site.requests
    with pytest.raises(ConfigError, match=r"weights\.paths\.level2 is no file of model mine.*closest: 'level_2'"):
        obtain_weights(model, config(tmp_path, paths={"level2": "x"}))
    with pytest.raises(DownloadError, match=r"weights\.paths\.level_2 is .*gone, but there is no such file"):
        obtain_weights(model, config(tmp_path, paths={"level_2": "/gone"}))


@pytest.mark.parametrize("variable", [True, False])
def test_offline_lists_everything_that_is_missing(
    site: Site, tmp_path: Path, small_model: str, variable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError) as caught:
        models.fetch([small_model], config(tmp_path, offline=not variable))
    assert "6 files are not on this machine; put them at these paths, or bring them with" in str(caught.value)
    assert all(f"  {tmp_path}/weights/{path} (" in str(caught.value) for path in CONTENT)
    assert not site.requests
    for path in [*list(CONTENT)[:3], "ids/a.txt", "ids/g.txt"]:
        (tmp_path / "weights" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "weights" / path).write_bytes(site.files[path])
    with pytest.raises(DownloadError, match=r"1 file is not on this machine; put it at this path, or bring it with"):
        models.fetch([small_model], config(tmp_path, offline=not variable))


def test_all_files_must_fit_on_the_disk_before_the_first_byte(
    site: Site, tmp_path: Path, small_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 2 * sum(map(len, CONTENT.values())) + 8  # a safetensors copy of each, and two vocabularies of 4 bytes
    monkeypatch.setattr(library.shutil, "disk_usage", lambda _: SimpleNamespace(free=needed - 1))
    with pytest.raises(DownloadError, match=r"6 files need .* free; nothing was fetched: make room"):
        models.fetch([small_model], config(tmp_path))
    assert not site.requests
    monkeypatch.setattr(library.shutil, "disk_usage", lambda _: SimpleNamespace(free=needed))
    assert models.fetch([small_model], config(tmp_path))


def test_models_are_carried_to_a_machine_without_network(site: Site, tmp_path: Path, small_model: str) -> None:
    here, remote, stick = config(tmp_path), config(tmp_path / "remote", offline=True), tmp_path / "stick"
    with pytest.raises(DownloadError, match="cannot be exported; fetch it first"):
        models.export([small_model], stick, here)
    models.fetch([small_model], here)
    assert len(models.export([small_model], stick, here)) == 6
    site.files.clear()
    with pytest.raises(ConfigError, match="is no export"):
        models.import_(tmp_path, remote)
    with pytest.raises(ConfigError, match="holds none of the files of mini"):
        models.import_(stick, remote, ["mini"])
    carried = stick / PATHS["level_0"]
    content = carried.read_bytes()
    carried.write_bytes(content[::-1])
    with pytest.raises(DownloadError, match="sent a file with sha256"):
        models.import_(stick, remote, [small_model])
    carried.write_bytes(content)
    assert len(models.import_(stick, remote, [small_model])) == 6
    assert models.fetch([small_model], remote)
    assert models.fetch([small_model], config(tmp_path / "mirrored", offline=True, mirrors=(str(stick),)))


@pytest.mark.parametrize("pickles", ["keep", "convert", "replace"])
def test_pickles_are_converted_once(site: Site, tmp_path: Path, small_model: str, pickles: str) -> None:
    model, weights = load_preset(small_model), config(tmp_path, pickles=pickles)
    assert models.prepare(small_model, weights)
    found = obtain_weights(model, weights)["level_1"]
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
    assert obtain_weights(model, weights)["level_1"] == found
    assert (len(site.requests), found.path.stat().st_mtime_ns) == (asked, written)
    assert models.paths(small_model, weights)["level_1"] == found.path
    assert all(not each.fault for each in models.check([small_model], weights))


class _Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code ran",)


def test_a_pickle_with_code_is_set_aside_and_not_run(
    site: Site, tmp_path: Path, small_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = pickle.dumps(_Trap(), protocol=2)
    site.files[PATHS["level_2"]] = evil + b"\0" * (len(CONTENT[PATHS["level_2"]]) - len(evil))
    model = load_preset(small_model)
    with pytest.raises(CheckpointError, match=r"was set aside as prior_level_2\.pth\.tar\.damaged"):
        obtain_weights(model, config(tmp_path))
    target = tmp_path / "weights" / PATHS["level_2"]
    assert not target.exists()
    assert target.with_name("prior_level_2.pth.tar.damaged").exists()
    assert "code ran" not in capsys.readouterr().out


def test_a_substitute_is_kept_apart_and_the_published_never_mixed_with_it(
    site: Site, tmp_path: Path, small_model: str
) -> None:
    with serving({path: checkpoint(50 + i) for i, path in enumerate(CONTENT)}) as other:
        model, weights = load_preset(small_model), config(tmp_path, substitute=other.url, pickles="keep")
        theirs = obtain_weights(model, weights)
        ours = obtain_weights(model, replace(weights, substitute=None))
    assert not {file.path for file in theirs.values()} & {file.path for file in ours.values()}
    assert theirs["vqvae"].sha256 != ours["vqvae"].sha256 == model.files.weights["vqvae"].sha256
    assert "5b/vqvae.pth.tar" in Records(tmp_path / "weights").read()


def test_shared_files_of_a_model_that_is_here_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = config(tmp_path)
    monkeypatch.setattr(
        catalogue,
        "_if_complete",
        lambda model, library: list(wanted_files(model.files, library.weights).values()) if model.name == "5b" else [],
    )
    for each in catalogue._unique(["5b", "1b_lyrics"], weights):
        each.path.parent.mkdir(parents=True, exist_ok=True)
        each.path.write_bytes(b"x")
    removed, kept = models.remove(["1b_lyrics"], weights)
    assert {path.name for path in removed} == {"prior_level_2.pth.tar", "v3_artist_ids.txt", "v3_genre_ids.txt"}
    assert {path.name for path in kept} >= {"vqvae.pth.tar", "prior_level_0.pth.tar", "prior_level_1.pth.tar"}


def test_records_are_parsed_once_however_many_files_are_asked_for(
    site: Site, tmp_path: Path, small_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, weights, parsed = load_preset(small_model), config(tmp_path, pickles="keep"), []
    models.fetch([small_model], weights)
    loads = json.loads
    monkeypatch.setattr(records.json, "loads", lambda text: parsed.append(1) or loads(text))
    assert len(obtain_weights(model, weights)) == 4
    assert len(parsed) == 1


def test_records_of_another_process_are_seen(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    mine, other = records.Records(tmp_path), records.Records(tmp_path)
    assert mine.get(tmp_path / "a") is None
    assert other.verify(tmp_path / "a") == mine.get(tmp_path / "a")
    other.remove(tmp_path / "a")
    assert mine.get(tmp_path / "a") is None
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".") and path.name != "fetched.json"]


def test_an_export_has_the_published_files_and_not_their_safetensors_copies(
    site: Site, tmp_path: Path, small_model: str
) -> None:
    weights = config(tmp_path)
    models.prepare(small_model, weights)
    models.export([small_model], tmp_path / "stick", weights)
    assert all((tmp_path / "stick" / path).read_bytes() == content for path, content in CONTENT.items())
