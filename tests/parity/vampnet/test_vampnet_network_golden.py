"""The transformers against golden vectors: embeddings, buckets, layers, logits, low-rank updates, official sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from jukebox_core.families.vampnet.checkpoints.loading import build_transformer, load_transformer
from jukebox_core.families.vampnet.config import LORA_RANK, TransformerConfig
from jukebox_core.families.vampnet.model.lora import is_lora
from jukebox_core.families.vampnet.model.positions import bucket_of
from jukebox_core.families.vampnet.model.transformer import flatten_books
from tests.helpers.models import vampnet as gold

if TYPE_CHECKING:
    from pathlib import Path

OFFICIAL = {
    "coarse": (TransformerConfig(n_layers=20, n_codebooks=4), 335_893_664, 2_867_200, 368, 200),
    "c2f": (
        TransformerConfig(n_layers=16, n_codebooks=14, n_conditioning_codebooks=4),
        277_753_072,
        2_293_760,
        296,
        160,
    ),
}


@torch.no_grad()
def test_embeddings(golden_vampnet: Path) -> None:
    arrays = gold.tensors(golden_vampnet / "embedding/embedding.npz")
    codec = gold.codec(golden_vampnet)
    everything = codec.codebooks(codec.config.n_codebooks)
    for role in gold.ROLES:
        embedding = gold.transformer(golden_vampnet, role).embedding
        codes = arrays[f"{role}.codes"]
        gold.close(embedding.latents(codes, everything), arrays[f"{role}.latents"], 1e-6)
        gold.close(embedding(codes, everything), arrays[f"{role}.projected"], gold.LOGITS)
        masked = torch.full((1, codes.shape[1], 1), codec.config.codebook_size)
        gold.close(embedding.latents(masked, everything), arrays[f"{role}.all_mask_latents"], 1e-6)
        for name in [name for name in arrays if name.startswith(f"{role}.first")]:
            books = int(name.split(".")[1].removeprefix("first"))
            gold.close(embedding.latents(codes[:, :books], everything), arrays[name], 1e-6)
    embedding, codes = gold.transformer(golden_vampnet, "coarse").embedding, arrays["coarse.all_codec_books.codes"]
    gold.close(embedding.latents(codes, everything), arrays["coarse.all_codec_books.latents"], 1e-6)
    codes[:, -1, 0] = codec.config.codebook_size  # the mask of a book that the model lacks
    with pytest.raises(IndexError):
        embedding.latents(codes, everything)
    gold.same(flatten_books(arrays["flatten.in"]), arrays["flatten.out"])


@torch.no_grad()
def test_masks_sound_as_code_0_in_parity_and_are_silent_otherwise(golden_vampnet: Path) -> None:
    arrays = gold.tensors(golden_vampnet / "embedding/embedding.npz")
    codes, opened = arrays["decode_with_mask.codes"], gold.interface(golden_vampnet, 1, 1)
    gold.close(opened.decode(codes, parity=True), arrays["decode_with_mask.audio"], gold.AUDIO)
    hop, masked = opened.codec.config.hop, (codes == opened.codec.config.codebook_size).all(1)[0]
    heard = opened.decode(codes)[0, 0, : masked.numel() * hop].view(-1, hop)
    assert masked.any()
    assert not heard[masked].any()
    assert heard[~masked].any(1).all()


def test_buckets_of_relative_positions(golden_vampnet: Path) -> None:
    arrays = gold.tensors(golden_vampnet / "transformer/relative_bias.npz")
    gold.same(bucket_of(arrays["relative_position"]), arrays["bucket_bidirectional"])
    for role in gold.ROLES:
        [name] = [name for name in arrays if name.startswith(f"{role}.bias_T")]
        bias = gold.transformer(golden_vampnet, role).bias(arrays[name].shape[-1])
        gold.close(bias[0], arrays[name][:, 0], 1e-6)


@torch.no_grad()
def test_logits(golden_vampnet: Path) -> None:
    arrays = gold.tensors(golden_vampnet / "transformer/logits.npz")
    cases = gold.load(golden_vampnet / "transformer/logits.json")["cases"]
    for case in cases:
        model = gold.transformer(golden_vampnet, case.split(".")[0])
        codes, stored = arrays[f"{case}.codes_masked"], arrays[f"{case}.logits"]
        found = model(codes)
        gold.close(found[:, -stored.shape[-1] :].mT, stored, gold.LOGITS)
        gold.same(found.argmax(-1), arrays[f"{case}.logits_argmax"])
        x, bias = model.embedding(codes, model.codebooks_KVD), model.bias(codes.shape[-1])
        gold.close_if(arrays, f"{case}.embedded", x, gold.LOGITS)
        x, outputs = x.mT, []
        for layer in model.layers:
            x = layer(x, bias)
            outputs.append(x)
        gold.close_if(arrays, f"{case}.activations", torch.stack(outputs), gold.LOGITS)
        gold.close_if(arrays, f"{case}.final_norm_out", model.norm(x), gold.LOGITS)


@torch.no_grad()
def test_parts_of_a_layer(golden_vampnet: Path) -> None:
    arrays = gold.tensors(golden_vampnet / "transformer/logits.npz")
    cases = gold.load(golden_vampnet / "transformer/logits.json")["cases"]
    for role in gold.ROLES:
        model, steps = gold.transformer(golden_vampnet, role), arrays[f"{role}.layer0.attn_out"].shape[1]
        [case] = [name for name in cases if name.startswith(f"{role}.") and cases[name]["T"] == steps]
        x, layer = model.embedding(arrays[f"{case}.codes_masked"], model.codebooks_KVD).mT, model.layers[0]
        attended = layer.attention(layer.norm_1(x), model.bias(steps))  # type: ignore[operator, union-attr]
        gold.close(attended, arrays[f"{role}.layer0.attn_out"], gold.LOGITS)
        read = layer.norm_3(x + attended)  # type: ignore[operator]
        gold.close(read, arrays[f"{role}.layer0.ff_in"], gold.LOGITS)
        gold.close(layer.feed_forward.gated(read), arrays[f"{role}.layer0.gated"], gold.LOGITS)  # type: ignore[operator, union-attr]
        gold.close(layer.feed_forward(read), arrays[f"{role}.layer0.ff_out"], gold.LOGITS)  # type: ignore[operator]


@torch.no_grad()
def test_low_rank_updates_in_every_form(golden_vampnet: Path) -> None:
    """A whole fine-tune, its updates over the base model, one that was saved merged, and updates kept apart."""
    arrays, codec = gold.tensors(golden_vampnet / "transformer/logits.npz"), gold.codec(golden_vampnet)
    models, forms = golden_vampnet / "models/vampnet", 0
    for role in gold.ROLES:
        base, tuned = models / f"{role}.pth", models / f"loras/tiny/{role}.pth"
        saved = models / f"loras/tiny_saved_after_eval/{role}.pth"
        updates = golden_vampnet / f"runs/tiny/{role}/latest/lora.pth"
        for name in [name for name in arrays if name.startswith(f"{role}.") and ".lora_" in name]:
            case, form, _ = name.rsplit(".", 2)
            path, lora, merge = {
                "lora_full": (tuned, None, True),
                "lora_file_on_base": (base, updates, True),
                "lora_saved_after_eval": (saved, None, True),
                "lora_unmerged": (tuned, None, False),
            }[form]
            if not path.is_file():
                continue  # of a subset
            model = load_transformer(path, codec, lora=lora, merge=merge)
            found = model(arrays[f"{case}.codes_masked"]).mT
            gold.close(found[..., : arrays[name].shape[-1]], arrays[name], gold.LOGITS)
            assert any(map(is_lora, model.state_dict())) is not merge
            forms += 1
    assert forms


@pytest.mark.parametrize("role", gold.ROLES)
def test_official_sizes(role: str) -> None:
    config, parameters, lora_parameters, keys, lora_keys = OFFICIAL[role]
    state = build_transformer(config, LORA_RANK).state_dict()
    lora = {name: tensor for name, tensor in state.items() if is_lora(name)}
    assert (sum(each.numel() for each in state.values()), len(state)) == (parameters, keys)
    assert (sum(each.numel() for each in lora.values()), len(lora)) == (lora_parameters, lora_keys)
    assert state["embedding.project.weight"].shape == (1280, 8 * config.n_codebooks, 1)
    assert state["classifier.weight_v"].shape[0] == 1024 * config.n_predicted
