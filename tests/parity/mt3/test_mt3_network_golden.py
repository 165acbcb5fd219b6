"""The networks of MT3 and MR-MT3 against the golden vectors `t5` and `segmem`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch.nn import functional

from jukebox_core.errors import CheckpointError
from jukebox_core.families.mt3.checkpoints.loading import build, check_weights, load_model
from jukebox_core.families.mt3.checkpoints.renames import RENAMES
from jukebox_core.families.mt3.model.transformer import frequencies
from jukebox_core.families.mt3.transcription.loop import decode_rows
from jukebox_core.models.checkpoints.checkpoint import matched_names, open_checkpoint
from tests.helpers.models.mt3 import NETWORK, bundles, checkpoint_in, load, network, padded, tensors

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

LOSS_RTOL = 1e-5
MEMORY_ATOL = 5e-5
SHORT = 64  # tokens that take no time


def shifted(labels: Tensor) -> Tensor:
    """The decoder's inputs for labels: they begin with 0, and ignored labels are 0."""
    return functional.pad(labels[:, :-1], (1, 0)).clamp(min=0)


@torch.no_grad()
def test_encoder_and_logits(golden_mt3: Path) -> None:
    for folder in bundles(golden_mt3, "t5.json"):
        data, io = load(folder / "t5.json"), tensors(folder / "io.npz")
        model = load_model(network(data["config"]), checkpoint_in(folder))
        for name, case in data["cases"].items():
            encoded = model.encode(io[f"{name}.inputs"])
            kept = encoded[:, :: case.get("encoder_last_stored_every", 1)]
            torch.testing.assert_close(kept, io[f"{name}.encoder_last"], **NETWORK)
            for key in [key for key in io if key.startswith(f"{name}.dec") and key.endswith(".ids")]:
                expected = io[f"{key.removesuffix('.ids')}.logits"]
                torch.testing.assert_close(model(io[key], encoded), expected, **NETWORK)
            if "train_loss" in case:
                labels = io[f"{name}.train.labels"]
                logits = model(shifted(labels), encoded)
                torch.testing.assert_close(logits, io[f"{name}.train.logits"], **NETWORK)
                loss = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
                assert loss.item() == pytest.approx(case["train_loss"], rel=LOSS_RTOL)


@torch.no_grad()
def test_hidden_states_of_every_layer(golden_mt3: Path) -> None:
    checked = 0
    for folder in bundles(golden_mt3, "t5.json"):
        data, io = load(folder / "t5.json"), tensors(folder / "io.npz")
        model = load_model(network(data["config"]), checkpoint_in(folder))
        for name in data["cases"]:
            stored = sorted(key for key in io if key.startswith(f"{name}.encoder_hidden"))
            if not stored:
                continue
            x = model.project(io[f"{name}.inputs"][: len(io[stored[0]])])
            x = x + model.encoder.positions(0, x.shape[1])
            states = [x]
            for layer in model.encoder.layers:
                states.append(layer(states[-1]))
            states[-1] = model.encoder.norm(states[-1])
            for found, key in zip(states, stored, strict=True):
                torch.testing.assert_close(found, io[key], **NETWORK)
                checked += 1
    assert checked


@torch.no_grad()
@pytest.mark.parametrize("long", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_greedy_ids_and_their_logits(golden_mt3: Path, long: bool) -> None:
    for folder in bundles(golden_mt3, "t5.json"):
        data, io = load(folder / "t5.json"), tensors(folder / "io.npz")
        model = load_model(network(data["config"]), checkpoint_in(folder))
        for name, case in data["greedy"].items():
            if (case["max_length_including_start"] > SHORT) != long:
                continue
            source = model.encode(io[f"{case['inputs']}.inputs"][case["rows"]])
            rows = decode_rows(model, source, max_tokens=case["max_length_including_start"])
            expected = io[f"greedy.{name}.ids"]
            assert padded([row.ids for row in rows], expected.shape[1]) == expected.tolist(), name
            assert [len(row.ids) if row.complete else None for row in rows] == case["eos_at"], name
            steps = io.get(f"greedy.{name}.step_logits")
            if steps is None:
                continue
            at = io.get(f"greedy.{name}.step_logits_at", torch.arange(steps.shape[1]))
            cache = model.start(source)
            found = [model.step(ids, cache) for ids in expected[:, : int(at.max()) + 1].unbind(1)]
            for row, row_source in enumerate(source):
                last = (case["eos_at"][row] or expected.shape[1]) - 1
                kept = at[at <= last]
                torch.testing.assert_close(
                    torch.stack([found[index][row] for index in kept]), steps[row, : len(kept)], **NETWORK
                )
                whole = model(expected[row : row + 1, : int(kept.max()) + 1], row_source[None])[0, kept]
                torch.testing.assert_close(whole, steps[row, : len(kept)], **NETWORK)


def test_positions_are_those_of_the_port_or_of_magenta(golden_mt3: Path) -> None:
    for folder in bundles(golden_mt3, "t5.json"):
        data = load(folder / "t5.json")
        model = load_model(network(data["config"]), checkpoint_in(folder))
        expected = frequencies(data["config"]["d_model"], data.get("inv_freq", "port"))
        torch.testing.assert_close(model.encoder.frequencies, expected)


@torch.no_grad()
def test_memory_rows_and_vectors(golden_mt3: Path) -> None:
    for folder in bundles(golden_mt3, "segmem.json"):
        data, io = load(folder / "segmem.json"), tensors(folder / "io.npz")
        for length in data["lengths"]:
            model = load_model(network(data["config"], length), checkpoint_in(folder))
            assert model.memory is not None
            encoded, before, rows = model.encode(io["inputs"]), data["first_memory_ids"], []
            for index in range(len(encoded)):
                ids = torch.tensor([before])
                vectors = io.get(f"L{length}.seg{index}.memory_full")
                if vectors is not None:
                    torch.testing.assert_close(
                        model.memory(model.embedding(ids))[0], vectors, atol=MEMORY_ATOL, rtol=1e-4
                    )
                source = model.with_memory(encoded[index : index + 1], ids)
                [row] = decode_rows(model, source, max_tokens=data["max_length"])
                [before] = padded([row.ids], data["max_length"])
                rows.append(before)
                logits = io.get(f"L{length}.seg{index}.step_logits")
                if logits is not None:
                    found = model(torch.tensor([before[: len(logits)]]), source)[0]
                    kept = found[:, :: data["step_logits_vocab_stride"]]
                    torch.testing.assert_close(kept, logits, **NETWORK)
            assert rows == io[f"L{length}.rows"].tolist()


@torch.no_grad()
def test_memory_in_training(golden_mt3: Path) -> None:
    for folder in bundles(golden_mt3, "segmem.json"):
        data, io = load(folder / "segmem.json"), tensors(folder / "io.npz")
        for length in data["lengths"]:
            model = load_model(network(data["config"], length), checkpoint_in(folder))
            source = model.with_memory(model.encode(io["train.inputs"]), io["train.targets_prev"].clamp(min=0))
            logits = model(shifted(io["train.labels"]), source)
            kept = logits[..., :: data["step_logits_vocab_stride"]]
            torch.testing.assert_close(kept, io[f"train.L{length}.logits"], **NETWORK)
            loss = functional.cross_entropy(logits.flatten(0, 1), io["train.labels"].flatten(), ignore_index=-100)
            assert loss.item() == pytest.approx(data[f"train_loss_L{length}"], rel=LOSS_RTOL)


def test_names_and_shapes_of_the_official_files(golden_mt3: Path) -> None:
    """Every name of the published files has a place of its shape, and nothing is left over."""
    for folder in bundles(golden_mt3, "official_keys.json"):
        data = load(folder / "official_keys.json")
        memory = 64 if "segmem_num_layers" in data["config"] else None
        model = build(network(data["config"], memory))
        extra = data.get("extra_keys_over_mt3")
        keys = data["keys"] if extra is None else [*load(folder.parent / "t5/official_keys.json")["keys"], *extra]
        assert len(keys) == data["count"]
        prefix = data.get("checkpoint_prefix", "")
        stored = {f"{prefix}{each['key']}": torch.empty(each["shape"], device="meta") for each in keys}
        from jukebox_core.models.checkpoints.checkpoint import Checkpoint

        known = matched_names(model, Checkpoint(folder, _Equal(stored), {}), RENAMES)
        assert set(known) == set(model.state_dict())
        assert sum(parameter.numel() for parameter in model.parameters()) == data["parameters_trainable"]


class _Equal(dict):  # type: ignore[type-arg]
    """Tensors without values, zeros when they are read, so that tied ones are equal."""

    def __getitem__(self, name: str) -> Tensor:
        return torch.zeros(()).expand(super().__getitem__(name).shape)


def test_tied_tensors_that_differ_are_refused(golden_mt3: Path, tmp_path: Path) -> None:
    folder = bundles(golden_mt3, "t5.json")[0]
    config = network(load(folder / "t5.json")["config"])
    state = torch.load(checkpoint_in(folder), weights_only=True)
    state["encoder.embed_tokens.weight"] = state["encoder.embed_tokens.weight"] + 1e-3
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"1 tied but different: proj.weight and encoder.embed_tokens.weight"):
        check_weights(config, tmp_path / "x.pth")


def test_a_file_of_another_kind_or_size_is_refused(golden_mt3: Path) -> None:
    plain, memory = bundles(golden_mt3, "t5.json"), bundles(golden_mt3, "segmem.json")[0]
    config = load(memory / "segmem.json")["config"]
    with pytest.raises(CheckpointError, match=r"left over: .*segmem"):
        check_weights(network(config), checkpoint_in(memory))
    with pytest.raises(CheckpointError, match="of another shape"):
        check_weights(network(config, 32), checkpoint_in(plain[0]))
    assert open_checkpoint(checkpoint_in(memory)).tensors
