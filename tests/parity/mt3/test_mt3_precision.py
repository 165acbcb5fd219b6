"""Engines and precisions on the golden models: the same greedy ids in float32, and how many agree in less."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from jukebox_core.audio.files import read_audio
from jukebox_core.families.mt3.checkpoints.loading import load_model
from jukebox_core.families.mt3.config import TranscriptionConfig
from jukebox_core.families.mt3.engines.engines import prepare
from jukebox_core.families.mt3.transcription.loop import decode_rows
from jukebox_core.families.mt3.transcription.transcriber import open_transcriber
from tests.helpers.models.mt3 import bundles, checkpoint_in, load, network, padded, tensors

if TYPE_CHECKING:
    from pathlib import Path

# The least share of steps whose likeliest id is that of float32, with the original's ids fed back. The weights of these
# models are small and random, so that many ids are about as likely as the likeliest; those of the chain are trained.
LIMITS = {"bfloat16": 0.93, "int8": 0.90}
SHORT = 128  # ids


@torch.no_grad()
def test_native_steps_give_the_golden_ids(golden_mt3: Path) -> None:
    checked = 0
    for folder in bundles(golden_mt3, "t5.json"):
        data, io = load(folder / "t5.json"), tensors(folder / "io.npz")
        model = prepare(load_model(network(data["config"]), checkpoint_in(folder)), "float32", "native")
        for name, case in data["greedy"].items():
            if case["max_length_including_start"] > SHORT:
                continue
            source = model.encode(io[f"{case['inputs']}.inputs"][case["rows"]])
            rows = decode_rows(model, source, max_tokens=case["max_length_including_start"])
            expected = io[f"greedy.{name}.ids"]
            assert padded([row.ids for row in rows], expected.shape[1]) == expected.tolist(), name
            checked += 1
    assert checked


@torch.no_grad()
@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("engine", ["native", "eager"])
def test_likeliest_ids_of_random_models(golden_mt3: Path, dtype: str, engine: str) -> None:
    same = total = 0
    for folder in bundles(golden_mt3, "t5.json"):
        data, io = load(folder / "t5.json"), tensors(folder / "io.npz")
        model = prepare(load_model(network(data["config"]), checkpoint_in(folder)), dtype, engine)
        for name, case in data["greedy"].items():
            if case["max_length_including_start"] > SHORT:
                continue
            ids = io[f"greedy.{name}.ids"]
            logits = model(ids[:, :-1], model.encode(io[f"{case['inputs']}.inputs"][case["rows"]]))
            for row, stop in enumerate(case["eos_at"]):
                agree = logits[row].argmax(-1)[:stop] == ids[row, 1:][:stop]
                same, total = same + int(agree.sum()), total + len(agree)
    print(f"{dtype} {engine}: {same} of {total} likeliest ids agree, {same / total:.2%}")
    assert same / total > LIMITS[dtype]


@pytest.mark.parametrize("dtype", ["float32", *LIMITS])
@pytest.mark.parametrize("engine", ["native", "eager"])
def test_the_trained_chain_gives_the_same_ids_in_every_precision(golden_mt3: Path, dtype: str, engine: str) -> None:
    for folder in bundles(golden_mt3, "chain.json", "chain"):
        sizes = network(load(folder / "config.json"))
        transcriber = open_transcriber(prepare(load_model(sizes, checkpoint_in(folder)), dtype, engine))
        audio = read_audio(folder / "song.wav", rate=16_000)
        rows = [each.row.ids for each in transcriber.transcripts(audio, TranscriptionConfig())]
        assert rows == load(folder / "chain.json")["target_ids"]
