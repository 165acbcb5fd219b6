"""The codec and the preparation of audio against golden vectors: exact codes, bounded sound."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch.nn import functional

from jukebox_core.families.vampnet.checkpoints.loading import load_codec
from jukebox_core.families.vampnet.sound.front_end import prepare
from jukebox_core.families.vampnet.sound.loudness import k_weighting
from jukebox_core.families.vampnet.sound.resampling import resample
from tests.helpers.models import vampnet as gold

if TYPE_CHECKING:
    from pathlib import Path

    from jukebox_core.families.vampnet.model.codec import Codec

LOSS_RTOL = 1e-5


def bundles(golden: Path) -> list[tuple[str, Codec]]:
    """The codecs, each with the name of its bundle."""
    variants = sorted((golden / "models/variants").glob("codec_*.pth"))
    named = [("io", golden / "models/vampnet/codec.pth")] + [(f"variant_{p.stem[6:]}", p) for p in variants]
    found = [(name, path) for name, path in named if (golden / f"codec/{name}.npz").is_file()]
    assert found
    return [(name, load_codec(gold.need(path))) for name, path in found]


@torch.no_grad()
def test_encoding_and_decoding(golden_vampnet: Path) -> None:
    for name, codec in bundles(golden_vampnet):
        arrays = gold.tensors(golden_vampnet / f"codec/{name}.npz")
        for case, facts in gold.load(golden_vampnet / f"codec/{name}.json")["cases"].items():
            audio = gold.sound(arrays[f"{case}.x_int16"])
            padded = codec.config.padded(audio.shape[-1])
            encoded = codec.encode(audio)
            gold.same(encoded.codes_BKT, arrays[f"{case}.codes"])
            gold.close(encoded.latents_BLT, arrays[f"{case}.latents"], gold.LATENTS)
            gold.close(encoded.quantised_BWT, arrays[f"{case}.z"], gold.QUANTISED)
            encoder_out = codec.encoder(functional.pad(audio, (0, padded - audio.shape[-1])))
            gold.close_if(arrays, f"{case}.encoder_out", encoder_out, gold.LATENTS)
            gold.close_if(arrays, f"{case}.from_codes_z", codec.quantised(encoded.codes_BKT), gold.QUANTISED)
            for loss in ("commitment_loss", "codebook_loss"):
                assert getattr(encoded, loss).item() == pytest.approx(facts[loss], rel=LOSS_RTOL)
            assert (padded, codec.config.frames(padded)) == (facts["length_padded"], facts["n_frames"])
            assert codec.config.decoded(facts["n_frames"]) == facts["decode_length"]
            heard = codec.decoder(encoded.quantised_BWT)[..., : audio.shape[-1]]
            gold.close_if(arrays, f"{case}.forward_audio", heard, gold.AUDIO)


@torch.no_grad()
def test_fewer_codebooks(golden_vampnet: Path) -> None:
    codec, arrays = gold.codec(golden_vampnet), gold.tensors(golden_vampnet / "codec/io.npz")
    facts = gold.load(golden_vampnet / "codec/io.json")["cases"]
    counted = [(case, int(key[2:])) for case in facts for key in facts[case] if key.startswith("nq")]
    assert counted
    for case, count in counted:
        encoded = codec.encode(gold.sound(arrays[f"{case}.x_int16"]), count)
        gold.close(encoded.quantised_BWT, arrays[f"{case}.nq{count}.z"], gold.QUANTISED)
        gold.same(encoded.codes_BKT, arrays[f"{case}.codes"])
        assert encoded.commitment_loss.item() == pytest.approx(facts[case][f"nq{count}"]["commitment_loss"], rel=1e-5)


@torch.no_grad()
def test_codes_that_no_encoder_made(golden_vampnet: Path) -> None:
    """Vectors of one direction are the same to upstream's decoder, which searches the nearest again."""
    codec, arrays = gold.codec(golden_vampnet), gold.tensors(golden_vampnet / "codec/io.npz")
    cases = [name.removesuffix(".codes_after_from_latents") for name in arrays if "codes_after" in name]
    assert cases
    for case in cases:
        canonical = codec.canonical(arrays[f"{case}.codes"])
        gold.same(canonical, arrays[f"{case}.codes_after_from_latents"])
        gold.close(codec.quantised(canonical), arrays[f"{case}.z"], gold.QUANTISED)
        gold.close(codec.decode(arrays[f"{case}.codes"]), arrays[f"{case}.audio"], gold.AUDIO)


@torch.no_grad()
def test_layers_of_encoder_and_decoder(golden_vampnet: Path) -> None:
    codec, arrays = gold.codec(golden_vampnet), gold.tensors(golden_vampnet / "codec/io.npz")
    audio = gold.sound(arrays["oddlen.x_int16"])
    padded = functional.pad(audio, (0, codec.config.padded(audio.shape[-1]) - audio.shape[-1]))
    x = codec.encoder.first(padded)
    for index, stage in enumerate((None, *codec.encoder.stages)):
        x = stage(x) if stage is not None else x
        expected = arrays.get(f"encoder_layer{index}_out")
        if expected is not None:
            gold.close(x[:1, :, : expected.shape[2]], expected, gold.LATENTS)
    [codes] = [arrays[n] for n in arrays if n == f"random_codes.books{codec.config.n_codebooks}.codes"]
    x = codec.decoder.first(codec.quantised(codec.canonical(codes[:1])))
    for index, stage in enumerate((None, *codec.decoder.stages)):
        if stage is not None and f"decoder_block{index}.after_transpose" in arrays:
            after = stage.conv(stage.snake(x))  # type: ignore[operator, union-attr]
            expected = arrays[f"decoder_block{index}.after_transpose"]
            gold.close(after[..., : expected.shape[2]], expected, gold.AUDIO)
            for number, branch in enumerate(stage.branches):  # type: ignore[arg-type, union-attr]
                expected = arrays[f"decoder_block{index}.mrf_branch{number}"]
                gold.close(branch(after)[..., : expected.shape[2]], expected, gold.AUDIO)
        x = stage(x) if stage is not None else x
        expected = arrays.get(f"decoder_layer{index}_out")
        if expected is not None:
            gold.close(x[..., : expected.shape[2]], expected, gold.AUDIO)


@torch.no_grad()
def test_audio_is_prepared(golden_vampnet: Path) -> None:
    codec, arrays = gold.codec(golden_vampnet), gold.tensors(golden_vampnet / "codec/preprocess.npz")
    facts = gold.load(golden_vampnet / "codec/preprocess.json")
    for case, about in facts["cases"].items():
        audio = gold.sound(arrays[f"{case}.x_int16"])
        resampled = resample(audio, about["rate"], codec.config.sample_rate)
        prepared = prepare(audio, about["rate"], codec.config)
        assert (resampled.shape[-1], prepared.audio_B1T.shape[-1]) == (about["n_resampled"], about["n_final"])
        for name, made, atol in (("resampled", resampled, 1e-6), ("preprocessed", prepared.audio_B1T, gold.AUDIO)):
            head, tail = arrays[f"{case}.{name}_head"], arrays[f"{case}.{name}_tail"]
            gold.close(made[..., : head.shape[-1]], head, atol)
            gold.close(made[..., -tail.shape[-1] :], tail, atol)
        assert prepared.loudness_B == pytest.approx(about["loudness_lufs"], abs=gold.LOUDNESS)
        assert prepared.audio_B1T.abs().max().item() == pytest.approx(max(about["peak_final"]), abs=gold.AUDIO)
        gold.same(codec.encode(prepared.audio_B1T).codes_BKT, arrays[f"{case}.codes"])


def test_filters_of_the_loudness(golden_vampnet: Path) -> None:
    facts = gold.load(golden_vampnet / "codec/preprocess.json")
    weights = facts["k_weighting"]
    expected = [[*weights[name]["b"], *weights[name]["a"]] for name in ("high_shelf", "high_pass")]
    np.testing.assert_allclose(k_weighting(facts["sample_rate"]), expected, atol=1e-12)


def test_seconds_and_tokens(golden_vampnet: Path) -> None:
    config = gold.codec(golden_vampnet).config
    facts = gold.load(golden_vampnet / "codec/preprocess.json")
    for each in facts["s2t"]:
        assert config.tokens_of(each["seconds"]) == each["tokens"]
        assert config.seconds_of(each["tokens"]) == pytest.approx(each["back_seconds"], rel=1e-12)
    known = range(1, 4000)
    differ = [k for k in known if config.tokens_of(k * config.hop / config.sample_rate) != k]
    listed = facts["s2t_of_exact_lengths_mismatch"]
    assert (differ[: len(listed)], len(differ)) == (listed, facts["s2t_mismatch_count_of_3999"])
