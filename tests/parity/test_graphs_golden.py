"""Jukebox's graphs in onnxruntime against the model: every kind of prior, equal tokens with the same noise."""

from __future__ import annotations

import copy
import wave
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from jukebox_core.composer.tune import tune
from jukebox_core.errors import AudioError, ConfigError
from jukebox_core.export.compare import signal_to_noise
from jukebox_core.export.record import read_graph_record, record_path
from jukebox_core.export.session import Session
from jukebox_core.export.weights import find_tensors, tensors_of
from jukebox_core.families.jukebox.checkpoints.loading import load_prior, load_vqvae
from jukebox_core.families.jukebox.export import engine
from jukebox_core.families.jukebox.export.engine import GraphPrior
from jukebox_core.families.jukebox.export.graphs import prior_graph
from jukebox_core.families.jukebox.export.names import CONDITION, PREFILL, STEP, graphs_of
from jukebox_core.families.jukebox.sampling.codec import VQVAECodec
from jukebox_core.families.jukebox.sampling.config import LevelSampling
from jukebox_core.families.jukebox.sampling.decoder import WindowDecoder, clamp_codes, decode_window, draw_codes
from jukebox_core.models.presets import load_preset
from jukebox_core.sampling.noise import CounterNoise
from tests.helpers.exports import files, stored_once
from tests.helpers.models.golden_priors import FILES, need, read_plain_prior, read_vqvae
from tests.helpers.models.tiny_priors import CONFIGS, VQVAE, tiny_prior
from tests.helpers.scripts import run_example

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from jukebox_core.families.jukebox.model.prior import Prior
    from tests.helpers.exports import Exports

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

PARTS = (CONDITION, PREFILL, STEP)
QUICK = {"up0", "encoder_2", "step_2"}  # exports of the others take minutes, as some have tens of layers
GOLDEN = [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.endurance) for kind in FILES]
TRAINED = pytest.mark.endurance  # all graphs of mini: their export takes minutes
KINDS = [kind if kind == "lyrics" else pytest.param(kind, marks=pytest.mark.endurance) for kind in CONFIGS]
RATE, HOP = 1000, 4


@dataclass
class Graphs:
    """The three graphs of a prior, as an application runs them."""

    folder: Path
    level: int

    def __post_init__(self) -> None:
        self.condition, self.prefill, self.step = (Session(self.folder / f"{part}_{self.level}.onnx") for part in PARTS)

    def sample(self, prior: Prior, rows: list[Tensor], known: Tensor, count: int, noise: CounterNoise) -> Tensor:
        """`known` [B, T] and `count` codes that are drawn after them."""
        shape, batch = prior.config, len(known)
        named = dict(zip(self.condition.inputs, (each.numpy() for each in rows), strict=True))
        made = dict(zip(self.condition.outputs, self.condition.run(named), strict=True))
        lyrics = rows[0][:, -shape.lyrics.tokens :] if shape.lyrics else known[:, :0]
        tokens = torch.cat([lyrics[:, : shape.lyric_positions], known + prior.shift], 1).numpy()
        first = tokens.shape[1]
        caches = self._prefilled(prior, tokens, made, batch)
        token, drawn = tokens[:, -1] if first else np.zeros(batch, np.int64), []
        for position in range(first, first + count):
            given = {"token": token, "position": np.array([position]), **made, **caches}
            logits, *changed = self.step.run({name: each for name, each in given.items() if name in self.step.inputs})
            caches |= {n.removesuffix("_out"): v for n, v in zip(self.step.outputs[1:], changed, strict=True)}
            exponentials = noise.draw(position - shape.lyric_positions, logits.shape[1])
            chances = (torch.from_numpy(logits) / LevelSampling().temperature).softmax(-1)
            token = (chances / exponentials).argmax(-1).numpy()
            drawn.append(token - prior.shift)
        return torch.cat([known, torch.from_numpy(np.stack(drawn, 1))], 1)

    def _prefilled(self, prior: Prior, tokens: Any, made: dict[str, Any], batch: int) -> dict[str, NDArray[Any]]:
        padded = np.zeros((batch, prior.config.positions), np.int64)
        padded[:, : tokens.shape[1]] = tokens
        given = {"tokens": padded, "known": np.array([tokens.shape[1]]), **made}
        found = self.prefill.run({name: each for name, each in given.items() if name in self.prefill.inputs})
        return dict(zip(self.prefill.outputs, found, strict=True))


def conditioning(make: Callable[[], Prior], batch: int, rate: int = RATE, hop: int = HOP) -> list[Tensor]:
    """Label rows, and codes above."""
    graph = prior_graph(make(), CONDITION, rate, hop)
    return list(graph.draw({"batch": batch}, torch.Generator().manual_seed(2)))


def check_tokens(make: Callable[[], Prior], folder: Path, steps: int, rate: int = RATE, hop: int = HOP) -> None:
    """As many steps, in windows with and without known codes, of two songs with conditioning of their own."""
    prior, done, seed = make(), 0, 0
    graphs = Graphs(folder, prior.config.level)
    rows = conditioning(make, 2, rate, hop)
    condition = prior.condition(*rows)
    while done < steps:
        known = torch.arange(2 * (0, 5, prior.config.context // 2 + 1)[seed % 3]).view(2, -1) % 7
        count = prior.config.context - known.shape[1]
        noise = CounterNoise(seed, prior.config.level, (0, 1))
        drawn = decode_window(prior, condition, known, count, LevelSampling(), noise, start=0)
        ours = clamp_codes(torch.cat([known, *drawn], 1))
        found = clamp_codes(graphs.sample(prior, rows, known, count, CounterNoise(seed, prior.config.level, (0, 1))))
        assert torch.equal(ours, found), f"{(ours != found).sum()} of {ours.numel()} tokens differ"
        done, seed = done + count, seed + 1


def exported(exports: Exports, make: Callable[[], Prior], name: str, rate: int = RATE, hop: int = HOP) -> Path:
    level = make().config.level
    for part in PARTS:
        folder = exports.of(
            lambda: prior_graph(make(), part, rate, hop),  # noqa: B023 - used at once
            "jukebox",
            name,
            f"{part}_{level}",
        )
    return folder


def check_weights(make: Callable[[], Prior], folder: Path) -> None:
    """Every tensor of the prior is in one of its graphs, counted from the files."""
    import onnx

    prior = make()
    tensors = tensors_of(prior)
    missing = set(tensors)
    for part in PARTS:
        stored = onnx.load(folder / f"{part}_{prior.config.level}.onnx").graph.initializer
        named, arrays = {name: tensors[name] for name in missing}, [onnx.numpy_helper.to_array(each) for each in stored]
        missing = set(find_tensors(named, arrays).missing)
        stored_once(arrays, tensors)
    allowed = {"lyric_encoder.output.weight"}  # predicts lyrics, for the training loss alone
    assert missing <= allowed
    assert len(tensors) > 50


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_prior(exports: Exports, kind: str) -> None:
    def make() -> Prior:
        return tiny_prior(kind)

    folder = exported(exports, make, f"tiny-{kind}")
    check_weights(make, folder)
    check_tokens(make, folder, 60)
    for part in PARTS:
        cases = read_graph_record(record_path(folder, f"{part}_{make().config.level}"))["report"]["cases"]
        assert {each["sizes"]["batch"] for each in cases} >= {1, 2, 3}
        assert all(each["good"] for each in cases)
    assert VQVAE.bins < 100


@pytest.mark.parametrize("kind", KINDS)
def test_the_engine_samples_as_the_prior_does(exports: Exports, kind: str) -> None:
    """Prefill at once, in chunks and shared by songs."""
    prior = tiny_prior(kind)
    level = prior.config.level
    folder = exported(exports, lambda: tiny_prior(kind), f"tiny-{kind}")
    graphs = GraphPrior(prior.config, {f"{part}_{level}": Session(folder / f"{part}_{level}.onnx") for part in PARTS})
    rows = [each[:1].expand(2, -1) for each in conditioning(lambda: tiny_prior(kind), 2)]
    known = torch.arange(9).expand(2, -1) % 7
    for chunk, shared in ((None, 0), (4, 0), (None, 5 + prior.config.lyric_positions)):
        made = []
        for each in (prior, graphs):
            decoder = WindowDecoder(each, each.condition(*rows))
            noise = CounterNoise(1, level, (0, 1))
            how: dict[str, Any] = {"start": 0, "prefill_chunk": chunk, "shared": shared}
            made.append(torch.cat([*draw_codes(decoder, known, 20, LevelSampling(), noise, **how)], 1))
        assert torch.equal(*made)


@torch.inference_mode()
@TRAINED
def test_the_engine_encodes_and_decodes_in_pieces(exports: Exports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_PIECE_SECONDS", 0.7)
    preset = load_preset("mini")
    vqvae = load_vqvae(preset.config, files(preset, "vqvae")["vqvae"][0])
    names = [f"{part}_{level}" for part in ("encoder", "decoder") for level in range(3)]
    folder = exports.folder("mini", *names)
    graphs = engine.graph_codec(preset.config, vqvae, {name: Session(folder / f"{name}.onnx") for name in names})
    audio = tune(3.1, 22050)[None]
    for level, codes in enumerate(VQVAECodec(vqvae).encode(audio, [0, 1, 2])):
        [found] = graphs.encode(audio, [level])
        assert found.shape == codes.shape
        assert (found != codes).mean() <= 0.001
        ours = VQVAECodec(vqvae).decode(codes, level)
        snr = signal_to_noise(ours, graphs.decode(codes, level))
        assert snr is not None
        assert snr >= 100
    with pytest.raises(AudioError, match="at least"):
        graphs.encode(audio[:, :3], [2])
    with pytest.raises(ConfigError, match="codes reach from 0 to 600; this codebook has 0 to 511"):
        graphs.decode(np.array([[0, 600]]), 0)


@pytest.mark.parametrize("kind", GOLDEN)
def test_500_steps_of_the_golden_priors(exports: Exports, golden: Path, kind: str) -> None:
    need(golden / "zoo/models" / f"{FILES[kind]}.pth.tar")

    def make() -> Prior:
        return copy.deepcopy(read_plain_prior(golden, kind)).requires_grad_(requires_grad=False)

    vqvae = read_vqvae(golden).config
    rate, hop = vqvae.sample_rate, vqvae.hops[make().config.level]
    folder = exported(exports, make, f"golden-{kind}", rate, hop)
    check_weights(make, folder)
    check_tokens(make, folder, 500, rate, hop)


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=TRAINED) for name in graphs_of(load_preset("mini").config)],
)
def test_the_report_of_the_trained_model(exports: Exports, name: str) -> None:
    record = read_graph_record(record_path(exports.folder("mini", name), name))
    assert all(each["good"] for each in record["report"]["cases"])
    assert record["dtype"] == "float32"


@torch.inference_mode()
@TRAINED
@pytest.mark.parametrize("level", [0, 1, 2])
def test_music_of_any_length_through_the_codec(exports: Exports, level: int) -> None:
    preset = load_preset("mini")
    vqvae = load_vqvae(preset.config, files(preset, "vqvae")["vqvae"][0])
    folder = exports.folder("mini", f"encoder_{level}", f"decoder_{level}")
    encoder, decoder = (Session(folder / f"{part}_{level}.onnx") for part in ("encoder", "decoder"))
    hop = preset.config.hops[level]
    for seconds, batch in ((0.006, 1), (1.0, 3), (12.0, 1)):
        music = torch.from_numpy(tune(seconds, 22050))
        audio = torch.stack([music * (1 - 0.3 * item) for item in range(batch)])
        audio = audio[:, : audio.shape[1] // hop * hop]
        [codes] = vqvae.encode(audio, [level])
        found = encoder.run({"audio": audio.numpy()})[0]
        assert (found != codes.numpy()).mean() <= 0.001
        snr = signal_to_noise(vqvae.decode(codes, level).numpy(), decoder.run({"codes": codes.numpy()})[0])
        assert snr is not None
        assert snr >= 100


@TRAINED
def test_the_example_needs_no_torch_and_draws_our_tokens(exports: Exports, tmp_path: Path) -> None:
    preset = load_preset("mini")
    folder = exports.folder("mini", "condition_2", "prefill_2", "step_2", "decoder_2")
    printed = run_example("jukebox.py", folder, "out.wav", "40", cwd=tmp_path)
    found = [int(each) for each in printed.split()]
    prior = load_prior(preset.config, 2, files(preset, "level_2")["level_2"][0])
    window, random = prior.config.context * preset.config.hops[2], np.random.default_rng(0)
    labels = torch.zeros(1, 5 + 32, dtype=torch.int64)
    labels[0, :3] = torch.tensor([4 * window, 0, window])

    class NumpyNoise:
        def draw(self, _position: int, count: int) -> Tensor:
            return torch.from_numpy(random.standard_exponential((1, count), np.float32))

    sampling = LevelSampling(temperature=1.0)
    ours = decode_window(
        prior, prior.condition(labels), torch.zeros(1, 0, dtype=torch.int64), 40, sampling, NumpyNoise(), start=0
    )
    assert found == clamp_codes(torch.cat([*ours], 1))[0].tolist()
    with wave.open(str(tmp_path / "out.wav")) as file:
        assert file.getnframes() == 40 * preset.config.hops[2]
