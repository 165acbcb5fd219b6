from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import save_file

from jukebox_core.errors import CheckpointError
from jukebox_core.families.mt3.checkpoints.loading import check_weights, load_model, write_seeded
from jukebox_core.families.mt3.config import (
    FrontEndConfig,
    MemoryConfig,
    MT3Config,
    MT3Network,
    TransformerConfig,
    VocabularyConfig,
)
from jukebox_core.families.mt3.model.transformer import MT3, frequencies

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

SIZES = TransformerConfig(
    width=16,
    heads=2,
    head_width=4,
    mlp_width=12,
    encoder_depth=1,
    decoder_depth=2,
    embeddings=1391,
    positions="magenta",
)
TINY = MT3Network(front_end=FrontEndConfig(mels=16), vocabulary=VocabularyConfig(), transformer=SIZES)


@pytest.fixture
def model() -> MT3:
    torch.manual_seed(0)
    return MT3(TINY).eval()


def magenta(model: MT3, separator: str, above: str) -> dict[str, Tensor]:
    """The weights of a model under Magenta's names, kernels transposed."""
    state, names = model.state_dict(), {}
    parts = {"q": "query", "k": "key", "v": "value", "o": "out"}
    attentions = {
        "encoder": {"attention": "attention"},
        "decoder": {"attention": "self_attention", "cross": "encoder_decoder_attention"},
    }
    norms = {
        "encoder": {"attention": "pre_attention_layer_norm", "feed_forward": "pre_mlp_layer_norm"},
        "decoder": {
            "attention": "pre_self_attention_layer_norm",
            "cross": "pre_cross_attention_layer_norm",
            "feed_forward": "pre_mlp_layer_norm",
        },
    }
    for name, tensor in state.items():
        path = name.split(".")
        if name.endswith("frequencies"):
            continue
        turned = tensor.T if tensor.dim() == 2 else tensor
        outer = {
            "project.weight": ("encoder/continuous_inputs_projection/kernel", turned),
            "embedding.weight": ("decoder/token_embedder/embedding", tensor),
            "head.weight": ("decoder/logits_dense/kernel", turned),
            "encoder.norm.weight": ("encoder/encoder_norm/scale", tensor),
            "decoder.norm.weight": ("decoder/decoder_norm/scale", tensor),
        }
        if name in outer:
            theirs, value = outer[name]
        else:
            stack, _, index, part, *rest = path
            layer = f"{stack}/layers_{index}"
            if part.startswith("norm_"):
                theirs, value = f"{layer}/{norms[stack][part.removeprefix('norm_')]}/scale", tensor
            elif part == "feed_forward":
                theirs, value = f"{layer}/mlp/{rest[0]}/kernel", turned
            else:
                theirs, value = f"{layer}/{attentions[stack][part]}/{parts[rest[0]]}/kernel", turned
        names[above + theirs.replace("/", separator)] = value.contiguous()
    return names


@pytest.mark.parametrize(("separator", "above"), [("/", ""), (".", "target."), ("/", "params/")])
def test_files_with_magentas_names_give_the_same_model(tmp_path: Path, model: MT3, separator: str, above: str) -> None:
    save_file(magenta(model, separator, above), tmp_path / "x.safetensors")
    check_weights(TINY, tmp_path / "x.safetensors")
    loaded = load_model(replace(TINY, transformer=replace(SIZES, positions="file")), tmp_path / "x.safetensors")
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name
    assert torch.equal(loaded.encoder.frequencies, frequencies(SIZES.width, "magenta"))


def test_kernels_of_attention_may_have_an_axis_of_heads(tmp_path: Path, model: MT3) -> None:
    named = magenta(model, "/", "")
    for name, tensor in named.items():
        if name.endswith("out/kernel"):
            named[name] = tensor.reshape(2, 4, 16).contiguous()
        elif "attention" in name and name.endswith("kernel"):
            named[name] = tensor.reshape(16, 2, 4).contiguous()
    save_file(named, tmp_path / "x.safetensors")
    loaded = load_model(TINY, tmp_path / "x.safetensors")
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_a_stray_or_missing_name_of_magentas_is_refused(tmp_path: Path, model: MT3) -> None:
    named = magenta(model, "/", "")
    named["decoder/layers_0/relpos_bias/rel_embedding"] = torch.zeros(2)
    del named["encoder/encoder_norm/scale"]
    save_file(named, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=r"1 missing: encoder.norm.weight; 1 left over: decoder/layers_0/relpos"):
        check_weights(TINY, tmp_path / "x.safetensors")


def test_untrained_weights_are_those_of_their_seed(tmp_path: Path) -> None:
    config = MT3Config(name="x", network=TINY)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_seeded(config, seed, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    made = [load_model(TINY, tmp_path / name).head.weight for name in ("a", "c")]
    assert not torch.equal(*made)


def test_positions_may_be_replaced_by_a_formula(tmp_path: Path) -> None:
    write_seeded(MT3Config(name="x", network=TINY), 1, tmp_path / "a")
    other = replace(TINY, transformer=replace(SIZES, positions="port"))
    loaded = load_model(other, tmp_path / "a")
    assert torch.equal(loaded.decoder.frequencies, frequencies(SIZES.width, "port"))
    assert not torch.equal(loaded.decoder.frequencies, frequencies(SIZES.width, "magenta"))


def test_a_model_with_memory_needs_its_tensors(tmp_path: Path) -> None:
    write_seeded(MT3Config(name="x", network=TINY), 1, tmp_path / "a")
    with pytest.raises(CheckpointError, match=r"missing: memory\.project\.weight"):
        check_weights(replace(TINY, memory=MemoryConfig(length=8)), tmp_path / "a")
