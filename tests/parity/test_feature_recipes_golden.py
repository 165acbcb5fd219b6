"""Recipes of features, against the arrays of the programs that they come from (docs/features.md, Recipes).

Recordings, layers, lengths and rates are read from the files.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from jukebox_core.errors import AudioError, ConfigError
from jukebox_core.families.jukebox.conditioning.song import Song
from jukebox_core.families.jukebox.sampling.codec import VQVAECodec
from jukebox_core.features.clips import cut_clips, sixteen_bit, song_timing
from jukebox_core.features.extract import Recording, extract
from jukebox_core.features.pooling import resample_fourier
from jukebox_core.features.presets import load_recipe
from tests.helpers.models.golden_features import arrays, one, recipe, run, same, wav
from tests.helpers.models.golden_priors import FLOAT16, read_vqvae

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.models.golden_features import GoldenNetworks

MEANS16 = 1e-2  # of means over float16 rows


def test_jukemir(golden: Path, about: dict[str, Any], networks: GoldenNetworks) -> None:
    expected, info = arrays(golden, "jukemir"), about["cases"]["jukemir"]
    layer = f"layer{info['layer']}"
    for name in info["files"]:
        pooled = one(networks(recipe(about, "jukemir")), wav(golden, name))
        same(pooled[layer], expected[f"{name}.mean"], f"{name}, mean")
        assert networks.rows[0][:2] == (about["constants"]["fixed_total_samples"], 0)
        kept = replace(recipe(about, "jukemir"), pooling="none", codes=(-1,))
        frames = one(networks(kept), wav(golden, name))
        if f"{name}.acts" in expected:
            same(frames[layer], expected[f"{name}.acts"], f"{name}, rows")
        window = len(frames[layer])
        np.testing.assert_array_equal(frames[networks.codes], expected[f"{name}.codes_all"][0, :window], name)
        (clip,) = cut_clips(wav(golden, name), kept, networks.config.sample_rate)
        np.testing.assert_allclose(clip[:64], expected[f"{name}.audio_first64"], atol=1e-7)
        cut_first = replace(kept, encode="window", encode_seconds=None, short="keep")
        other = one(networks(cut_first), wav(golden, name))
        np.testing.assert_array_equal(other[networks.codes], expected[f"{name}.codes_if_cut_to_window_first"][0], name)


def test_jukemir_refuses_short_clips(golden: Path, about: dict[str, Any], networks: GoldenNetworks) -> None:
    ((_, found),) = extract([Recording(audio=wav(golden, "c_short"))], networks(recipe(about, "jukemir")))
    assert isinstance(found, AudioError)
    assert "less than the full window" in str(found)


def test_jukemirlib(golden: Path, about: dict[str, Any], networks: GoldenNetworks) -> None:
    expected, info = arrays(golden, "jukemirlib"), about["cases"]["jukemirlib"]
    part = info["part"]
    begin = int(part["offset"] * networks.config.sample_rate)
    sounds = {name: wav(golden, name) for name in ("a_mono", "c_short")}
    sounds["part"] = wav(golden, part["file"])[begin : begin + part["samples"]]
    plain = recipe(about, "jukemirlib", layers=tuple(info["layers"]), codes=(-1,))
    for name, audio in sounds.items():
        found = one(networks(plain), audio)
        window = len(found[networks.codes])
        np.testing.assert_array_equal(found[networks.codes], expected[f"{name}.codes"][0, :window], name)
        for layer in info["layers"]:
            if f"{name}.layer{layer}" in expected:
                same(found[f"layer{layer}"], expected[f"{name}.layer{layer}"], f"{name}, layer {layer}")
        if f"{name}.audio_first64" in expected:
            (clip,) = cut_clips(audio, plain, networks.config.sample_rate)
            np.testing.assert_allclose(clip[:64], expected[f"{name}.audio_first64"], atol=1e-7)
    layer = info["rate_layer"]
    checked = 0
    for key, value in expected.items():  # such as a_mono.layer3.rate30.meanpool
        name, *rest = key.split(".", 2)
        if name not in sounds or rest[0] != f"layer{layer}" or len(rest) == 1 or "fp16" in key:
            continue
        rate = rest[1].partition(".meanpool")[0] if "rate" in rest[1] else ""
        chosen = replace(
            plain,
            layers=(layer,),
            rate=float(rate.removeprefix("rate")) if rate else None,
            pooling="mean" if "meanpool" in rest[1] else "none",
        )
        same(one(networks(chosen), sounds[name])[f"layer{layer}"], value, key)
        checked += 1
    assert checked > 4


def test_jukemirlib_in_half_precision(golden: Path, about: dict[str, Any], networks: GoldenNetworks) -> None:
    expected = {key: value for key, value in arrays(golden, "jukemirlib").items() if ".fp16_out" in key}
    assert expected
    for key, value in expected.items():
        name, layer, _, *more = key.split(".")
        rate = next((float(each.removeprefix("rate")) for each in more if each.startswith("rate")), None)
        pooling = "mean" if "meanpool" in more else "none"
        chosen = recipe(about, "jukemirlib", layers=(int(layer[5:]),), rate=rate, pooling=pooling, dtype="float16")
        found = one(networks(chosen, dtype=torch.float16), wav(golden, name))[layer]
        assert found.dtype == value.dtype
        same(found, value, key, rtol=0, atol=MEANS16 if "meanpool" in more else FLOAT16["atol"])


def test_jukemirlib_in_batches(golden: Path, about: dict[str, Any], networks: GoldenNetworks) -> None:
    expected, info = arrays(golden, "jukemirlib"), about["cases"]["jukemirlib"]["batch"]
    recordings = [Recording(audio=wav(golden, name)[: info["cut_to"]]) for name in info["files"]]
    layers = tuple(int(layer) for layer in info["shapes"])
    for rate, pooling, suffix in ((None, "none", ""), (None, "mean", ".mean_over_time"), (30.0, "none", ".rate30")):
        # What is sent is normalised already, from the whole file.
        chosen = recipe(about, "jukemirlib", layers=layers, rate=rate, pooling=pooling, codes=(-1,))
        found = run(networks(chosen, batch=2), *recordings)
        for layer in layers:
            key = f"batch.layer{layer}{suffix}"
            if key in expected:
                same(np.stack([each[f"layer{layer}"] for each in found]), expected[key], key)
        np.testing.assert_array_equal(np.stack([each[networks.codes] for each in found]), expected["batch.codes"])


def test_fourier_resampling(golden: Path, about: dict[str, Any]) -> None:
    given, checked = arrays(golden, "resample"), 0
    native = about["constants"]["code_rate"]
    for key, value in given.items():
        name, _, rest = key.partition(".rate")
        if not rest:
            continue
        rate, _, dtype = rest.rpartition(".")
        found = resample_fourier(given[name].astype(dtype), float(rate), native)
        assert found.dtype == value.dtype
        same(found, value, key, rtol=0, atol=2e-5 if dtype == "float32" else 2e-3)
        checked += 1
    assert checked


SHEETSAGE_SONGS = ("d_long", "d_part", "c_short", "e_rounds_down")


@pytest.mark.parametrize("name", SHEETSAGE_SONGS)
def test_sheetsage(golden: Path, about: dict[str, Any], networks: GoldenNetworks, name: str) -> None:
    expected, info = arrays(golden, "sheetsage"), about["cases"]["sheetsage"][name]
    whole = wav(golden, info.get("file", name))
    begin = int(info.get("offset", 0) * networks.config.sample_rate)
    audio = whole[begin : begin + info.get("samples", len(whole))]
    chosen = recipe(about, "sheetsage", codes=(-1,))
    position = {"total_seconds": len(whole) / networks.config.sample_rate, "offset_seconds": info.get("offset", 0.0)}
    found = one(networks(chosen), audio, **position)
    same_labels(networks.rows, info["labels_per_chunk"])
    layer = found[f"layer{chosen.layers[0]}"]
    assert len(layer) == len(audio) // networks.config.hops[-1]
    padded = one(networks(replace(chosen, trim=False)), audio, **position)
    np.testing.assert_array_equal(padded[networks.codes], expected[f"{name}.codes"])
    if f"{name}.acts" in expected:
        same(layer, expected[f"{name}.acts"], name)
    elif f"{name}.mean" in expected:
        same(layer.mean(0), expected[f"{name}.mean"], name)
        same(layer[-4:], expected[f"{name}.last4"], name)


def same_labels(rows: list[tuple[int, ...]], chunks: list[dict[str, Any]]) -> None:
    assert [row[:2] for row in rows] == [(each["total_length"], each["offset"]) for each in chunks]


def test_sheetsage_in_half_precision(golden: Path, about: dict[str, Any], networks: GoldenNetworks) -> None:
    expected = arrays(golden, "sheetsage").get("d_long.acts_fp16_first_chunk")
    if expected is None:
        pytest.skip("no arrays of half precision")
    chosen = recipe(about, "sheetsage", dtype="float16")
    audio = wav(golden, "d_long")
    found = one(networks(chosen, dtype=torch.float16), audio)[f"layer{chosen.layers[0]}"]
    assert found.dtype == np.float16
    same(found[: len(expected)], expected, "first chunk", **FLOAT16)


def test_sheetsage_from_codes(golden: Path, about: dict[str, Any], networks: GoldenNetworks) -> None:
    expected, cases = arrays(golden, "sheetsage"), about["cases"]["sheetsage"]
    codes, chosen = {networks.config.top: expected["codes3.z"]}, recipe(about, "sheetsage")
    checked = 0
    for name, info in cases.items():
        if not name.startswith("codes3_") or not isinstance(info, dict):
            continue
        short = name.removeprefix("codes3_")
        song = Song(artist=info.get("metadata_artist", "unknown"), genre=info.get("metadata_genre", "unknown"))
        if song != Song() and networks.vocabularies["artists_v2"].stat().st_size < 100:
            continue  # the released vocabularies are not here
        recording = Recording(
            codes=codes,
            song=song,
            total_seconds=info.get("metadata_total_length_seconds"),
            offset_seconds=info.get("metadata_offset_seconds", 0.0),
        )
        found = run(networks(chosen), recording)[0][f"layer{chosen.layers[0]}"]
        same_labels(networks.rows, info["labels_per_chunk"])
        same(found[cases["codes3_rows"]], expected[f"codes3.{short}.rows"], name)
        same(found.mean(0), expected[f"codes3.{short}.mean"], name)
        checked += 1
    assert checked >= 3


def test_total_seconds_that_round_down(golden: Path, about: dict[str, Any], networks: GoldenNetworks) -> None:
    """Lengths whose seconds, times the rate, are one sample short of whole codes (docs/features.md, sheetsage)."""
    info = about["cases"]["sheetsage"]["lengths_in_codes_whose_seconds_round_down"]
    chosen, sizes = recipe(about, "sheetsage"), networks(recipe(about, "sheetsage")).sizes
    low = -(-int(chosen.shortest_seconds * sizes.rate) // sizes.hop)
    for codes in info["first"]:
        seconds = codes * sizes.hop / sizes.rate
        total = song_timing(chosen, sizes, start=0, total_seconds=seconds, offset_seconds=0.0).total
        assert total == max(codes - 1, low) * sizes.hop, codes
        exact = song_timing(load_recipe(), sizes, start=0, total_seconds=seconds, offset_seconds=0.0).total
        assert exact >= codes * sizes.hop


def test_llark(golden: Path, about: dict[str, Any], networks: GoldenNetworks) -> None:
    expected, info = arrays(golden, "llark"), about["cases"]["llark"]
    layer = f"layer{info['layer']}"
    for name, frames in info["kept_frames"].items():
        for pool in info["pools"]:
            how = {"rate": float(pool)} if pool else {"rate": None, "pooling": "mean"}
            chosen = recipe(about, "llark", codes=(-1,), trim=True, **how)
            found = one(networks(chosen), wav(golden, name))
            same(found[layer], expected[f"{name}.pool{pool}"], f"{name}, {pool}")
            assert len(found[networks.codes]) == min(frames, about["constants"]["window_codes"])
        untrimmed = one(networks(recipe(about, "llark", codes=(-1,), trim=False)), wav(golden, name))
        np.testing.assert_array_equal(untrimmed[networks.codes], expected[f"{name}.codes"][0], name)
        if f"{name}.frames" in expected:
            rows = one(networks(recipe(about, "llark", rate=None)), wav(golden, name))
            same(rows[layer], expected[f"{name}.frames"], name)


def test_edge(golden: Path, about: dict[str, Any], networks: GoldenNetworks) -> None:
    expected, info = arrays(golden, "edge"), about["cases"]["edge"]
    chosen = recipe(
        about,
        "edge",
        slice_seconds=info["length_s"],
        slice_hop_seconds=info["stride_s"],
        rate=float(info["rate"]),
        codes=(-1,),
    )
    audio = wav(golden, info["file"])
    found = one(networks(chosen), audio)
    layer = found[f"layer{info['layer']}"]
    assert len(layer) == info["slices"]
    plain = replace(chosen, sixteen_bit=False, normalise=False)
    for index, (clip, about_slice) in enumerate(
        zip(cut_clips(audio, plain, networks.config.sample_rate), info["info"], strict=True)
    ):
        pcm = sixteen_bit(clip)
        assert hashlib.sha256(pcm.astype("<i2").tobytes()).hexdigest() == about_slice["sha256_of_int16_le"]
        if f"slice{index}.reps" in expected:
            np.testing.assert_array_equal(pcm[:64], expected[f"slice{index}.pcm_first64"])
            np.testing.assert_array_equal(found[networks.codes][index], expected[f"slice{index}.codes"][0])
            same(layer[index], expected[f"slice{index}.reps"], f"slice {index}")


def test_frames_of_a_clip_at_a_rate(about: dict[str, Any]) -> None:
    count, shape = about["cases"]["resample_frames_of_a_5s_clip_at_30"]
    native = about["constants"]["code_rate"]
    rows = np.zeros((int(5 * native), 1), np.float32)
    assert len(resample_fourier(rows, 30.0, native)) == count == shape[1]


def test_a_clip_padded_to_the_shortest_song(golden: Path, networks: GoldenNetworks) -> None:
    """The recipe `vqvae`: the codes of the padded clip, whatever its length."""
    chosen, audio = load_recipe("vqvae"), wav(golden, "c_short")
    sizes = networks(chosen).sizes
    found = one(networks(chosen), audio)
    assert list(found) == [networks.codes]
    padded = np.pad(audio, (0, sizes.shortest - len(audio)))
    (expected,) = VQVAECodec(read_vqvae(golden)).encode(padded[None], [sizes.level])
    np.testing.assert_array_equal(found[networks.codes], expected[0])
    assert len(found[networks.codes]) == sizes.shortest // sizes.hop > len(audio) // sizes.hop


def test_layers_in_any_order_or_an_error(golden: Path, about: dict[str, Any], networks: GoldenNetworks) -> None:
    """What the library silently leaves out is computed, or refused (docs/features.md)."""
    audio, checked = wav(golden, "c_short"), 0
    for asked, _ in about["cases"]["jukemirlib"]["layers_asked_and_got"]:
        if len(set(asked)) < len(asked) or not all(1 <= layer <= networks.sizes.depth for layer in asked):
            with pytest.raises(ConfigError, match="layers"):
                networks(recipe(about, "jukemirlib", layers=tuple(asked))).config.chosen_layers(networks.sizes)
        else:
            found = one(networks(recipe(about, "jukemirlib", layers=tuple(asked))), audio)
            assert set(found) == {f"layer{layer}" for layer in asked}
        checked += 1
    assert checked
