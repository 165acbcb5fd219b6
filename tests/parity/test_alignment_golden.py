"""Lyrics in time with the music, against the original's attention (docs/upstream.md, Alignment) and times from it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from jukebox_core.alignment.pictures import animation, picture, shown_characters, shown_columns
from jukebox_core.alignment.times import monotone_path, rows_of, statistics, word_spans
from jukebox_core.families.jukebox.alignment.heads import Head
from jukebox_core.families.jukebox.alignment.matrix import align_codes
from jukebox_core.families.jukebox.conditioning.labels import window_row
from jukebox_core.families.jukebox.conditioning.lyrics import alphabet
from jukebox_core.families.jukebox.features.activations import lyric_attention
from jukebox_core.families.jukebox.features.extractor import window_condition
from jukebox_core.protocols import WindowConditioning
from tests.helpers.golden import golden_files
from tests.helpers.models.golden_features import same
from tests.helpers.models.golden_priors import Bundle, need, read_bundle, read_prior, read_vqvae, song_labels

if TYPE_CHECKING:
    from pathlib import Path

    from jukebox_core.families.jukebox.conditioning.labels import SongLabels
    from jukebox_core.families.jukebox.model.prior import Prior

HALF = 4e-3  # of weights of up to a half, in half precision


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    patterns = {
        "bundle": "prior_*/alignment.json",
        "long_bundle": "alignment_long/*.json",
        "pipeline": "pipeline_*/pipeline.json",
    }
    for name, pattern in patterns.items():
        if name in metafunc.fixturenames:
            found = golden_files(metafunc.config, pattern)
            metafunc.parametrize(name, [path.removesuffix(".json") for path in found])


@torch.inference_mode()
def test_whole_runs(golden: Path, pipeline: str) -> None:
    """The alignment that a run of the original stored beside its codes."""
    found = read_run(golden, pipeline)
    kind = pipeline.partition("/")[0].removeprefix("pipeline_")
    aligned = sorted(name for name in found.arrays if ".align" in name)
    if not aligned:
        pytest.skip(f"{pipeline} has no lyrics")
    prior, metas = read_prior(golden, kind), found.info["metas"]
    lyrics, level = prior.config.lyrics, prior.config.level
    assert lyrics is not None
    assert lyrics.alignment_layer is not None
    assert lyrics.alignment_head is not None
    songs = items(prior, found, f"labels_y_level{level}", metas)
    for name in aligned:
        mode, _, item = name.partition(".align")
        made = align_codes(
            prior,
            found.arrays[f"{mode}.zs_l{level}"][int(item)].numpy(),
            songs[int(item)],
            Head(lyrics.alignment_layer, lyrics.alignment_head),
            hop=max(1, int(found.info["hop_fraction"][level] * prior.config.context)),
            code_samples=hop_samples(golden, prior),
        )
        same(made, found.arrays[name].numpy(), name)


def read_run(golden: Path, pipeline: str) -> Bundle:
    """The arrays and the metadata of a pipeline, whose files have different names."""
    folder = golden / pipeline.partition("/")[0]
    with np.load(need(folder / "io.npz")) as arrays:
        tensors = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    return Bundle(tensors, json.loads((folder / "pipeline.json").read_text()))


def kind_of(bundle: str) -> str:
    """The kind of prior of a bundle: prior_<kind>/alignment or alignment_long/<kind>."""
    folder, _, name = bundle.partition("/")
    return name if folder == "alignment_long" else folder.removeprefix("prior_")


def head_of(info: dict[str, Any]) -> Head:
    return Head(info["alignment_layer"], info["alignment_head"])


def hop_samples(golden: Path, prior: Prior) -> int:
    return read_vqvae(golden).config.hops[prior.config.level]


def items(prior: Prior, bundle: Any, rows: str, info: list[dict[str, Any]]) -> list[SongLabels]:
    labels = bundle.arrays[rows].tolist()
    return [song_labels(prior, row, each["lyrics"]) for row, each in zip(labels, info, strict=True)]


@torch.inference_mode()
def test_matrices(golden: Path, bundle: str) -> None:
    found, kind = read_bundle(golden, bundle), kind_of(bundle)
    prior, info = read_prior(golden, kind), found.info
    hop = max(1, int(info["hop_fraction"][-1] * prior.config.context))
    songs = items(prior, found, "labels_y", info["info"])
    cases = [name.removesuffix(".z") for name in found.arrays if name.endswith(".z")]
    assert cases
    for case in cases:
        for item, labels in enumerate(songs):
            codes = found.arrays[f"{case}.z"][item].numpy()
            made = align_codes(
                prior, codes, labels, head_of(info), hop=hop, code_samples=hop_samples(golden, prior), batch=3
            )
            same(made, found.arrays[f"{case}.align{item}"].numpy(), f"{case}, item {item}")


@torch.inference_mode()
def test_long_songs(golden: Path, long_bundle: str) -> None:
    found = read_bundle(golden, long_bundle)
    prior = read_prior(golden, kind_of(long_bundle))
    for name, case in found.info["cases"].items():
        if f"{name}.z" not in found.arrays:
            continue
        for item, labels in enumerate(items(prior, found, f"{name}.labels_y", case["info"])):
            assert list(labels.lyric_tokens) == case["info"][item]["full_tokens"]
            if f"{name}.align{item}" not in found.arrays:
                continue
            made = align_codes(
                prior,
                found.arrays[f"{name}.z"][item].numpy(),
                labels,
                head_of(found.info),
                hop=case["hop"],
                code_samples=hop_samples(golden, prior),
            )
            same(made, found.arrays[f"{name}.align{item}"].numpy(), f"{name}, item {item}")


@torch.inference_mode()
def test_windows(golden: Path, long_bundle: str) -> None:
    """What the windows were conditioned on, and the attention of single ones before they are merged."""
    found = read_bundle(golden, long_bundle)
    prior, checked = read_prior(golden, kind_of(long_bundle)), 0
    length = prior.config.context * hop_samples(golden, prior)
    for name, case in found.info["cases"].items():
        if f"{name}.z" not in found.arrays:
            continue
        songs = items(prior, found, f"{name}.labels_y", case["info"])
        for number, window in enumerate(case["windows"]):
            rows = [window_row(each, prior.config, sample_length=length, start=window["start"]) for each in songs]
            for row, padding, first in zip(rows, window["padding"], window["first_index"], strict=True):
                assert sum(index < 0 for index in row.lyric_indices) == padding
                seen = [index for index in row.lyric_indices if index >= 0]
                assert first is None if not seen else seen[0] - padding == first
            key = f"{name}.window{number}.item0"
            if key in found.arrays:
                codes = found.arrays[f"{name}.z"][:1, window["start"] : window["start"] + prior.config.context]
                condition = window_condition(prior, WindowConditioning([rows[0].row]), codes.device)
                weights = lyric_attention(prior, codes, condition, *head_of(found.info))
                same(weights[0].numpy(), found.arrays[key].numpy(), key)
                checked += 1
    assert checked


@torch.inference_mode()
def test_half_precision(golden: Path, long_bundle: str) -> None:
    found = read_bundle(golden, long_bundle)
    keys = [key for key in found.arrays if key.endswith(".align0_fp16")]
    if not keys:
        pytest.skip("no arrays of half precision")
    prior = read_prior(golden, kind_of(long_bundle), torch.float16)
    for key in keys:
        name = key.partition(".")[0]
        case = found.info["cases"][name]
        labels = items(prior, found, f"{name}.labels_y", case["info"])[0]
        made = align_codes(
            prior,
            found.arrays[f"{name}.z"][0].numpy(),
            labels,
            head_of(found.info),
            hop=case["hop"],
            code_samples=hop_samples(golden, prior),
        )
        same(made, found.arrays[key].numpy(), key, rtol=0, atol=HALF)


def test_times(golden: Path, long_bundle: str) -> None:
    found, checked = read_bundle(golden, long_bundle), 0
    for key, expected in found.arrays.items():
        name, item, *what = key.split(".")
        if len(what) != 1 or not item.startswith("item") or what[0].startswith("align"):
            continue
        weights = found.arrays[f"{name}.align{item[4:]}"].numpy()
        if what[0] == "monotone":
            made = monotone_path(weights)
            np.testing.assert_array_equal(made, expected.numpy(), key)
        else:
            made = getattr(statistics(weights), what[0])
            np.testing.assert_allclose(made, expected.numpy(), rtol=1e-9, atol=1e-9, err_msg=key)
        checked += 1
    assert checked


def test_the_files_of_the_page(golden: Path, long_bundle: str) -> None:
    """Within 1 grey level, as Pillow's own filters differ from their description."""
    found, drawn, played = read_bundle(golden, long_bundle), 0, 0
    for key, expected in found.arrays.items():
        name, item, *what = key.split(".")
        if what not in (["align_json"], ["align_png"]):
            continue
        weights = found.arrays[f"{name}.align{item[4:]}"].numpy()
        made = picture(weights) if what == ["align_png"] else animation(weights)
        assert made.shape == tuple(expected.shape), key
        assert np.abs(made.astype(int) - expected.numpy().astype(int)).max() <= 1, key
        drawn, played = drawn + (what == ["align_png"]), played + (what == ["align_json"])
        about = found.info["cases"][name]["items"][item[4:]]
        assert shown_columns(weights) == about["kept_columns"], key
        if "lyrics_json" in about:
            text = found.info["cases"][name]["info"][int(item[4:])]["lyrics"]
            shown = shown_characters(text, weights)
            short = {"length": len(shown), "joined": "".join(shown)}  # as long ones are recorded
            assert about["lyrics_json"] in (shown, short), key
    assert drawn
    assert played


def test_words(golden: Path, long_bundle: str) -> None:
    found, checked = read_bundle(golden, long_bundle), 0
    lyrics = read_prior(golden, kind_of(long_bundle)).config.lyrics
    assert lyrics is not None
    for name, case in found.info["cases"].items():
        for item, about in case["items"].items():
            path = found.arrays.get(f"{name}.item{item}.monotone")
            if "words" not in about or path is None:
                continue
            text = alphabet(lyrics.characters).text(case["info"][int(item)]["full_tokens"])
            assert text == case["info"][int(item)]["lyrics"]
            made = [
                [text[first:stop], first, stop, *(rows_of(path.numpy(), first, stop) or (None, None))]
                for first, stop in word_spans(text)
            ]
            assert made == about["words"], f"{name}, item {item}"
            checked += 1
    assert checked
