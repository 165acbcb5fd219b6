"""Graphs of MT3 in onnxruntime against the model: all weights, the report, and equal ids of greedy decoding."""

from __future__ import annotations

import json
import wave
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from jukebox_core.composer.tune import tune
from jukebox_core.export.config import ExportConfig
from jukebox_core.export.export import export_graph
from jukebox_core.export.record import read_graph_record, record_path
from jukebox_core.export.session import Session
from jukebox_core.export.weights import tensors_of
from jukebox_core.families.mt3.checkpoints.loading import load_model
from jukebox_core.families.mt3.config import EOS_ID, TranscriptionConfig
from jukebox_core.families.mt3.export.engine import GraphMT3
from jukebox_core.families.mt3.export.graphs import graph_of
from jukebox_core.families.mt3.export.names import graph_names
from jukebox_core.families.mt3.transcription.loop import decode_rows
from jukebox_core.families.mt3.transcription.transcriber import open_transcriber
from jukebox_core.models.presets import load_preset
from tests.helpers.exports import files, opened, stored_once
from tests.helpers.models.mt3 import bundles, checkpoint_in, load, network, tensors
from tests.helpers.scripts import run_example

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from jukebox_core.families.mt3.model.transformer import MT3
    from tests.helpers.exports import Exports

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

TRAINED = pytest.mark.endurance  # all graphs of mini_mt3: their export takes minutes
NAMES = ("encoder", "start", "step")


def mini() -> MT3:
    preset = load_preset("mini_mt3")
    return load_model(preset.network, files(preset, "transcriber")["transcriber"][0])


def greedy(folder: Path, source: NDArray[np.float32], most: int) -> list[list[int]]:
    """The ids of each row, as an application finds them."""
    cross = Session(folder / "start.onnx").run({"source": source})[0]
    step = Session(folder / "step.onnx")
    past, ids = cross[:, :, :, :, :0], np.zeros(len(source), np.int64)
    rows: list[list[int]] = [[] for _ in source]
    for _ in range(most - 1):
        logits, past = step.run({"ids": ids, "past": past, "cross": cross})
        ids = logits.argmax(-1)
        for row, each in zip(rows, ids.tolist(), strict=True):
            if row[-1:] != [EOS_ID]:
                row.append(each)
        if all(row[-1] == EOS_ID for row in rows):
            break
    return rows


@pytest.mark.parametrize("name", [*(pytest.param(name, marks=TRAINED) for name in NAMES[:-1]), NAMES[-1]])
def test_the_report_of_the_trained_model(exports: Exports, name: str) -> None:
    import onnx

    folder = exports.folder("mini_mt3", name)
    stored = onnx.load(folder / f"{name}.onnx").graph.initializer
    stored_once([onnx.numpy_helper.to_array(each) for each in stored], tensors_of(opened("mini_mt3", name).module))
    record = read_graph_record(record_path(folder, name))
    of_source = {"start": unused(mini(), cross=False), "step": unused(mini(), cross=True)}
    assert set(record["report"]["unused"]) == of_source.get(name, {"model.embedding.weight"})
    assert all(each["good"] for each in record["report"]["cases"])
    assert all(each["error"] <= 1e-4 for each in record["report"]["cases"] if each["output"] == "logits")


def unused(model: MT3, *, cross: bool) -> set[str]:
    """Tensors of the decoder that a graph does not need: of keys and values of the source, or of all else."""
    named = {f"model.decoder.{name}" for name in dict(model.decoder.named_parameters())}
    of_source = {name for name in named if ".cross.k." in name or ".cross.v." in name}
    buffers = {f"model.decoder.{name}" for name, _ in model.decoder.named_buffers()}
    return of_source if cross else (named - of_source) | buffers


@TRAINED
@torch.inference_mode()
def test_ids_of_music(exports: Exports) -> None:
    model = mini()
    folder = exports.folder("mini_mt3", *NAMES)
    audio = torch.from_numpy(tune(6.0, model.config.front_end.sample_rate))
    transcriber = open_transcriber(model)
    frames = transcriber.front_end(audio)
    encoded = model.encode(frames)
    found = Session(folder / "encoder.onnx").run({"frames": frames.numpy()})[0]
    most = model.config.transformer.max_tokens
    ours = [row.ids for row in decode_rows(model, encoded, max_tokens=most)]
    assert greedy(folder, found, most) == [list(each) for each in ours]
    assert sum(map(len, ours)) > 50


@TRAINED
@pytest.mark.parametrize(("dtype", "share", "equal"), [("int8", 0.3, 0.97), ("float16", 0.55, 0.999)])
@torch.inference_mode()
def test_weights_in_fewer_bits(exports: Exports, dtype: str, share: float, equal: float) -> None:
    """Likeliest ids on music, after the ids that the model finds, of encoder, start and step together."""
    model = mini()
    whole, small = exports.folder("mini_mt3", *NAMES), exports.folder("mini_mt3", *NAMES, dtype=dtype)
    for name in NAMES:
        assert (small / f"{name}.onnx").stat().st_size <= share * (whole / f"{name}.onnx").stat().st_size
    frames = open_transcriber(model).front_end(torch.from_numpy(tune(12.0, model.config.front_end.sample_rate)))
    encoded = Session(small / "encoder.onnx").run({"frames": frames.numpy()})[0]
    cross = Session(small / "start.onnx").run({"source": encoded})[0]
    step, past, same = Session(small / "step.onnx"), cross[:, :, :, :, :0], []
    rows = [list(row.ids) for row in decode_rows(model, model.encode(frames), max_tokens=200)]
    before = np.zeros(len(rows), np.int64)
    for at in range(max(map(len, rows))):
        logits, past = step.run({"ids": before, "past": past, "cross": cross})
        same += [row[at] == found for row, found in zip(rows, logits.argmax(-1), strict=True) if at < len(row)]
        before = np.array([row[at] if at < len(row) else 0 for row in rows])
    assert len(same) > 300
    assert np.mean(same) >= equal


@TRAINED
def test_the_engine_transcribes_as_the_model_does(exports: Exports) -> None:
    """Segments that end at different steps leave the batch, in greedy decoding and in beam search."""
    model = mini()
    folder = exports.folder("mini_mt3", *NAMES)
    graphs = GraphMT3(model.config, {name: Session(folder / f"{name}.onnx") for name in NAMES})
    audio = tune(5.0, model.config.front_end.sample_rate)
    for settings in (TranscriptionConfig(batch_size=3), TranscriptionConfig(num_beams=2)):
        ours, found = (list(open_transcriber(each).transcripts(audio, settings)) for each in (model, graphs))
        assert [each.row.ids for each in ours] == [each.row.ids for each in found]


@TRAINED
@torch.inference_mode()
def test_ids_of_golden_models(golden_mt3: Path, tmp_path: Path) -> None:
    """Models with a memory as well; the tiny models never end, so many tokens are compared."""
    folders = [*bundles(golden_mt3, "t5.json")[:1], *bundles(golden_mt3, "segmem.json")[:1]]
    for index, folder in enumerate(folders):
        [data_path] = [path for path in folder.glob("*.json") if path.stem in ("t5", "segmem")]
        data = load(data_path)
        model = load_model(network(data["config"], data.get("lengths", [None])[-1]), checkpoint_in(folder))
        target = tmp_path / str(index)
        names = graph_names(model.config)
        assert ("memory" in names) == (data_path.stem == "segmem")
        for name in names:
            source = {"key": "k", "model": "golden", "family": "mt3", "weights": {}}
            fresh: Any = lambda: load_model(model.config, checkpoint_in(folder))  # noqa: B023, E731 - used at once
            export_graph(lambda: graph_of(fresh(), name), target, name, ExportConfig(), source)  # noqa: B023
        inputs = next(each for key, each in tensors(folder / "io.npz").items() if key.endswith("inputs"))
        encoded = model.encode(inputs)
        found = Session(target / "encoder.onnx").run({"frames": inputs.numpy()})[0]
        if "memory" in names:
            before = torch.arange(model.config.transformer.max_tokens).expand(len(inputs), -1).contiguous() % 100
            encoded = model.with_memory(encoded, before)
            found = Session(target / "memory.onnx").run({"encoded": found, "ids": before.numpy()})[0]
        ours = [list(row.ids) for row in decode_rows(model, encoded, max_tokens=200)]
        assert greedy(target, found, 200) == ours


@TRAINED
def test_the_example_needs_no_torch_and_finds_our_ids(exports: Exports, tmp_path: Path) -> None:
    model = mini()
    folder = exports.folder("mini_mt3", *NAMES)
    rate = model.config.front_end.sample_rate
    samples = (tune(5.0, rate) * 32767).astype("<i2")
    with wave.open(str(tmp_path / "in.wav"), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    printed = [json.loads(line) for line in run_example("mt3.py", folder, "in.wav", cwd=tmp_path).splitlines()]
    audio = (samples / 32768).astype(np.float32)
    ours = [list(each.row.ids) for each in open_transcriber(model).transcripts(audio, TranscriptionConfig())]
    assert printed == ours
