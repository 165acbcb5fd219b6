"""Files of VampNet are loaded strictly: what is missing, left over or of another model is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from jukebox_core.errors import CheckpointError, ConfigError
from jukebox_core.families.vampnet.checkpoints.loading import load_codec, load_transformer
from tests.helpers.models import vampnet as gold

if TYPE_CHECKING:
    from pathlib import Path

LAYER = "transformer.layers.0."


def rewritten(source: Path, into: Path, **kwargs: Any) -> tuple[Path, dict[str, Any]]:
    """A copy of a checkpoint to be changed; `kwargs` replace sizes that it states."""
    content = torch.load(source, weights_only=True)
    content["metadata"]["kwargs"].update(kwargs)
    return into / source.name, content


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module._orig_mod."])
def test_prefixes_of_compiled_training_are_removed(golden_vampnet: Path, tmp_path: Path, prefix: str) -> None:
    source = golden_vampnet / "runs/tiny/coarse/latest/lora.pth"
    compiled = tmp_path / "lora.pth"
    torch.save({f"{prefix}{name}": each for name, each in torch.load(source, weights_only=True).items()}, compiled)
    base, codec = golden_vampnet / "models/vampnet/coarse.pth", gold.codec(golden_vampnet)
    plain, found = (load_transformer(base, codec, lora=path) for path in (source, compiled))
    untuned = load_transformer(base, codec)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor)
    assert not torch.equal(plain.layers[0].attention.fc.weight, untuned.layers[0].attention.fc.weight)  # type: ignore[union-attr]


def test_a_tensor_under_two_names_is_refused(golden_vampnet: Path, tmp_path: Path) -> None:
    path, content = rewritten(golden_vampnet / "models/vampnet/coarse.pth", tmp_path)
    state = content["state_dict"]
    state["_orig_mod.transformer.norm.weight"] = state["transformer.norm.weight"]
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"holds transformer.norm.weight twice"):
        load_transformer(path, gold.codec(golden_vampnet))


def test_missing_and_extra_tensors_are_named(golden_vampnet: Path, tmp_path: Path) -> None:
    path, content = rewritten(golden_vampnet / "models/vampnet/coarse.pth", tmp_path)
    content["state_dict"][f"{LAYER}norm_2.weight"] = content["state_dict"].pop(f"{LAYER}norm_3.weight")
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"missing: layers.0.norm_3.weight; 1 left over: .*norm_2.weight"):
        load_transformer(path, gold.codec(golden_vampnet))


def test_a_codec_of_another_model_is_refused(golden_vampnet: Path) -> None:
    for variant in sorted((golden_vampnet / "models/variants").glob("codec_*.pth")):
        with pytest.raises(ConfigError, match="choose its own codec"):
            load_transformer(golden_vampnet / "models/vampnet/coarse.pth", load_codec(variant))


def test_updates_of_another_width_or_of_several_ranks_are_refused(golden_vampnet: Path, tmp_path: Path) -> None:
    base, codec = golden_vampnet / "models/vampnet/coarse.pth", gold.codec(golden_vampnet)
    with pytest.raises(CheckpointError, match="of another shape"):
        load_transformer(base, codec, lora=golden_vampnet / "runs/tiny/c2f/latest/lora.pth")
    state = torch.load(golden_vampnet / "runs/tiny/coarse/latest/lora.pth", weights_only=True)
    name = f"{LAYER}self_attn.fc.lora_A"
    torch.save({**state, name: state[name][:2]}, tmp_path / "ranks.pth")
    with pytest.raises(CheckpointError, match=r"of ranks \[2, 8\]"):
        load_transformer(base, codec, lora=tmp_path / "ranks.pth")
    with pytest.raises(CheckpointError, match="give a file of low-rank updates alone"):
        load_transformer(base, codec, lora=base)


def test_updates_of_another_rank_are_read(golden_vampnet: Path, tmp_path: Path) -> None:
    """The rank is in no metadata; it follows from the tensors, and so does the scale of the update."""
    base, codec = golden_vampnet / "models/vampnet/coarse.pth", gold.codec(golden_vampnet)
    state = torch.load(golden_vampnet / "runs/tiny/coarse/latest/lora.pth", weights_only=True)
    halved = {name: each[:4] if name.endswith("A") else each[:, :4] for name, each in state.items()}
    torch.save(halved, tmp_path / "lora.pth")
    found = load_transformer(base, codec, lora=tmp_path / "lora.pth").layers[0].attention.fc.weight  # type: ignore[union-attr]
    name = f"{LAYER}self_attn.fc"
    weight = torch.load(base, weights_only=True)["state_dict"][f"{name}.weight"]
    expected = weight + halved[f"{name}.lora_B"] @ halved[f"{name}.lora_A"] / 4
    torch.testing.assert_close(found.detach(), expected)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"ctrl_dims": {"loudness": 1}}, "transformer with ctrl_dims="),
        ({"cond_dim": 4}, "transformer with cond_dim=4"),
        ({"n_heads": 7}, "impossible sizes: embedding_dim is 48; it must be a multiple of n_heads, 7"),
        ({"n_layers": 4}, "missing"),
    ],
)
def test_sizes_that_do_not_fit(golden_vampnet: Path, tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    path, content = rewritten(golden_vampnet / "models/vampnet/coarse.pth", tmp_path, **changed)
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=message):
        load_transformer(path, gold.codec(golden_vampnet))


def test_files_of_other_kinds_are_refused(golden_vampnet: Path) -> None:
    models = golden_vampnet / "models/vampnet"
    with pytest.raises(CheckpointError, match="left over"):
        load_codec(models / "coarse.pth")
    with pytest.raises(CheckpointError, match="does not state its sizes"):
        load_codec(golden_vampnet / "runs/tiny/coarse/latest/lora.pth")
