"""Graphs in onnxruntime against the model: all weights, equal codes, sound, logits and loops, at any length."""

from __future__ import annotations

import wave
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from jukebox_core.composer.tune import tune
from jukebox_core.export.compare import signal_to_noise
from jukebox_core.export.record import read_graph_record, record_path
from jukebox_core.export.session import Session
from jukebox_core.export.weights import find_tensors, tensors_of
from jukebox_core.families.vampnet.checkpoints.loading import load_codec
from jukebox_core.families.vampnet.export.engine import GraphCodec, GraphTransformer
from jukebox_core.families.vampnet.model.transformer import flatten_books
from jukebox_core.families.vampnet.sampling.codec import decoded, encoded
from jukebox_core.families.vampnet.sampling.config import PassConfig
from jukebox_core.families.vampnet.sampling.noise import CounterGridNoise, PassNoise
from jukebox_core.families.vampnet.sampling.passes import generate
from jukebox_core.models.presets import load_preset
from tests.helpers.exports import files, opened, stored_once
from tests.helpers.models import vampnet as gold
from tests.helpers.near_ties import differences
from tests.helpers.scripts import run_example

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from jukebox_core.families.vampnet.config import TransformerConfig
    from jukebox_core.families.vampnet.sampling.noise import GridSize
    from tests.helpers.exports import Exports

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

GRAPHS = ("encoder", "decoder", "coarse", "c2f")
CODES: Any = load_preset("mini_vamp").network.codec
TRAINED = pytest.mark.endurance  # the graphs of mini_vamp, whose export takes minutes


@pytest.fixture(scope="session", params=["golden", pytest.param("mini_vamp", marks=TRAINED)])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    if request.param != "golden":
        return str(request.param)
    golden: Path = request.getfixturevalue("golden_vampnet")
    return str(gold.write_preset(golden, tmp_path_factory.mktemp("preset")))


@pytest.mark.parametrize("name", GRAPHS)
def test_every_weight_is_in_the_graph(exports: Exports, model: str, name: str) -> None:
    """Counted here once more, from the file; the only tensors that are left out are those that change no output."""
    import onnx

    folder = exports.folder(model, name)
    tensors = tensors_of(opened(model, name).module)
    stored = onnx.load(folder / f"{name}.onnx").graph.initializer
    arrays = [onnx.numpy_helper.to_array(each) for each in stored]
    found = find_tensors(tensors, arrays)
    stored_once(arrays, tensors)
    last = max((key.split(".")[2] for key in tensors if key.startswith("codec.quantizers.")), key=int, default="")
    unused = {
        "encoder": {f"codec.quantizers.{last}.out_proj.{leaf}" for leaf in ("weight", "bias")},
        "decoder": {key for key in tensors if ".in_proj." in key},
    }
    left_out = {*found.missing, *found.zeros}
    zeros = {key for key in left_out if key.endswith("bias") and not tensors[key].any()}
    assert left_out - zeros == unused.get(name, set()) - zeros
    report = read_graph_record(record_path(folder, name))["report"]
    assert (report["tensors"], {*report["unused"], *report["zeros"]}) == (len(found.found), left_out)
    assert not [key for key in tensors if key.endswith(("weight_g", "lora_A"))]


@pytest.mark.parametrize("name", GRAPHS)
def test_the_report_holds(exports: Exports, model: str, name: str) -> None:
    record = read_graph_record(record_path(exports.folder(model, name), name))
    cases = record["report"]["cases"]
    assert {each["sizes"]["batch"] for each in cases} >= {1, 2, 3}
    assert len({tuple(each["sizes"].values()) for each in cases}) >= 5
    for each in cases:
        assert each["good"]
        assert each["snr_db"] is None or each["snr_db"] >= 100
        assert each["error"] is None or each["error"] <= 1e-4
        assert each["equal"] is None or each["equal"] >= 0.999
    assert set(record["versions"]) == {"torch", "onnx", "onnxscript", "onnxruntime"}
    assert all(len(each) == 64 for each in record["weights"].values())


def test_the_report_of_the_trained_model(exports: Exports) -> None:
    record = read_graph_record(record_path(exports.folder("mini_vamp", "coarse"), "coarse"))
    assert all(each["good"] for each in record["report"]["cases"])
    assert record["report"]["cases"][0]["error"] <= 1e-4


@torch.inference_mode()
def test_codes_of_golden_signals(exports: Exports, golden_vampnet: Path, tmp_path: Path) -> None:
    preset = gold.write_preset(golden_vampnet, tmp_path)
    folder, config = exports.folder(preset, "encoder", "decoder"), gold.codec(golden_vampnet).config
    encoder, decoder = (Session(folder / f"{name}.onnx") for name in ("encoder", "decoder"))
    arrays = gold.tensors(golden_vampnet / "codec/io.npz")
    for case in gold.load(golden_vampnet / "codec/io.json")["cases"]:
        audio = gold.sound(arrays[f"{case}.x_int16"])
        padded = functional.pad(audio, (0, config.padded(audio.shape[-1]) - audio.shape[-1]))
        gold.same(torch.from_numpy(encoder.run({"audio": padded.numpy()})[0]), arrays[f"{case}.codes"])
    made = [name.removesuffix(".audio") for name in arrays if name.endswith(".audio") and "forward" not in name]
    whole = [case for case in made if arrays[f"{case}.codes"].shape[1] == config.n_codebooks]
    assert whole
    for case in whole:
        sound = decoder.run({"codes": arrays[f"{case}.codes"].numpy()})[0]
        gold.close(torch.from_numpy(sound), arrays[f"{case}.audio"], gold.AUDIO)


@torch.inference_mode()
@TRAINED
@pytest.mark.parametrize(("seconds", "batch"), [(1, 3), (7.3, 2), (60, 1)])
def test_music_of_any_length(exports: Exports, seconds: float, batch: int) -> None:
    """Up to a minute, in one piece: codes equal, and sound of the same codes."""
    folder = exports.folder("mini_vamp", "encoder", "decoder")
    encoder, decoder = opened("mini_vamp", "encoder"), opened("mini_vamp", "decoder")
    music = torch.from_numpy(tune(seconds, 22050))
    audio = torch.stack([music * (1 - 0.3 * item) for item in range(batch)])[:, None]
    audio = functional.pad(audio, (0, -audio.shape[-1] % CODES.hop))
    codes = encoder.module(audio)
    found = Session(folder / "encoder.onnx").run({"audio": audio.numpy()})[0]
    assert (found == codes.numpy()).mean() >= (0.999 if seconds == 60 else 1)
    if seconds < 60:
        sound = Session(folder / "decoder.onnx").run({"codes": codes.numpy()})[0]
        snr = signal_to_noise(decoder.module(codes).numpy(), sound)
        assert snr is not None
        assert snr >= 100


@torch.inference_mode()
@TRAINED
def test_the_engine_encodes_and_decodes_in_pieces(exports: Exports) -> None:
    folder = exports.folder("mini_vamp", "encoder", "decoder")
    sessions = {name: Session(folder / f"{name}.onnx") for name in ("encoder", "decoder")}
    path = files(load_preset("mini_vamp"), "codec")["codec"][0]
    whole = load_codec(path)
    graph = GraphCodec(whole.config, sessions, path)
    audio = tune_of(9.0)
    ours, found = encoded(whole, audio, 200), encoded(graph, audio, 200)
    assert torch.equal(ours, found)
    snr = signal_to_noise(decoded(whole, ours, 200).numpy(), decoded(graph, ours, 200).numpy())
    assert snr is not None
    assert snr >= 100
    assert torch.equal(graph.decode(ours[:, :4]), whole.decode(ours[:, :4]))


@TRAINED
def test_a_length_between_is_cut_by_the_graph_itself(exports: Exports) -> None:
    """What the record warns of: the application pads."""
    session = Session(exports.folder("mini_vamp", "encoder") / "encoder.onnx")
    audio = np.zeros((1, 1, CODES.hop * 9 + 100), np.float32)
    assert session.run({"audio": audio})[0].shape == (1, CODES.n_codebooks, 9)


@pytest.mark.parametrize("name", ["coarse", "c2f"])
def test_loops_give_the_same_tokens(exports: Exports, model: str, name: str) -> None:
    module, graph = both(exports, model, name)
    steps = 2 if (model, name) == ("mini_vamp", "c2f") else 12
    codes, mask = mostly_masked(module.config, 3)
    made = [
        generate(each, codes, mask, PassConfig(steps=steps), CounterGridNoise(5, 1, 0, (0, 1), 0))
        for each in (module, graph)
    ]
    assert torch.equal(*made)
    assert (made[0] != codes).any()


@pytest.mark.parametrize(("name", "steps"), [("coarse", 12), ("c2f", 4)])
def test_only_ties_are_decided_differently(exports: Exports, model: str, name: str, steps: int) -> None:
    """mini_vamp's c2f often has two codes that are equally typical to a millionth, of which the filter keeps one."""
    module, graph = both(exports, model, name)
    for seed in range(4):
        codes, mask = mostly_masked(module.config, 3 + seed)
        noise = CounterGridNoise(5 + seed, 1, 0, (0, 1), 0)
        found = differences(module, graph, codes, mask, PassConfig(steps=steps), noise)
        assert found.error <= 3e-5  # 4e-6 to 1.3e-5, by the CPU
        assert found.margin <= 3e-5
        assert found.filters + found.drawn + found.remasked <= found.places // 1000
    nudged = Nudged(module)
    found = differences(module, nudged, codes, mask, PassConfig(steps=steps), noise)
    assert found.margin > 1e-4, "a larger error is seen"


def both(exports: Exports, model: str, name: str) -> tuple[Any, GraphTransformer]:
    """The network, and its graph."""
    module: Any = opened(model, name).module
    return module, GraphTransformer(module.config, Session(exports.folder(model, name) / f"{name}.onnx"))


def mostly_masked(sizes: TransformerConfig, seed: int) -> tuple[Tensor, Tensor]:
    """Codes, of which most of those that the network predicts are masked."""
    random = torch.Generator().manual_seed(seed)
    codes = torch.randint(sizes.vocab_size, (2, sizes.n_codebooks, 60), generator=random)
    mask = torch.rand(codes.shape, generator=random) < 0.9
    mask[:, : sizes.n_conditioning_codebooks] = False
    return codes, mask


class Nudged:
    """A network whose logits are off by up to a hundredth."""

    def __init__(self, model: Any) -> None:
        self.model, self.config, self.device = model, model.config, model.device

    def __call__(self, codes: Tensor) -> Tensor:
        logits: Tensor = self.model(codes)
        return logits + 0.01 * torch.rand(logits.shape, generator=torch.Generator().manual_seed(1))


@TRAINED
@pytest.mark.parametrize("name", ["coarse", "c2f"])
def test_int8_of_the_trained_model(exports: Exports, name: str) -> None:
    """The likeliest codes, on codes of music of which half are masked."""
    codes = torch.from_numpy(np.asarray(opened("mini_vamp", "encoder").module(tune_of(6.0))))
    module: Any = opened("mini_vamp", name).module
    folder = exports.folder("mini_vamp", name, dtype="int8")
    given = codes[:, : module.config.n_codebooks].clone()
    hidden = torch.rand(given.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    hidden[:, : module.config.n_conditioning_codebooks] = False
    given = given.masked_fill(hidden, module.config.mask_id)
    with torch.inference_mode():
        ours = module(given).argmax(-1)
    found = torch.from_numpy(Session(folder / f"{name}.onnx").run({"codes": given.numpy()})[0]).argmax(-1)
    assert (ours == found).float().mean() >= 0.97
    whole = exports.folder("mini_vamp", name) / f"{name}.onnx"
    assert (folder / f"{name}.onnx").stat().st_size < 0.6 * whole.stat().st_size


def tune_of(seconds: float) -> Tensor:
    music = torch.from_numpy(tune(seconds, 22050))[None, None]
    return functional.pad(music, (0, -music.shape[-1] % CODES.hop))


class NumpyNoise:
    """The noise that the example draws, in its order."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def draw(self, index: int, size: GridSize, *, tokens: bool) -> PassNoise:
        shape = (size.steps * size.books, size.codes)
        drawn = self.random.standard_exponential(shape, np.float32)
        gumbel = self.random.gumbel(size=shape[0]).astype(np.float32)
        return PassNoise(torch.from_numpy(drawn)[None], torch.from_numpy(gumbel)[None])


@TRAINED
def test_the_example_needs_no_torch_and_makes_what_we_make(exports: Exports, tmp_path: Path) -> None:
    folder = exports.folder("mini_vamp", *GRAPHS)
    music = (tune(3.0, 22050) * 32767).astype("<i2")
    with wave.open(str(tmp_path / "in.wav"), "wb") as file:
        file.setparams((1, 2, 22050, 0, "NONE", ""))
        file.writeframes(music.tobytes())
    run_example("vampnet.py", folder, "in.wav", "out.wav", cwd=tmp_path)
    with wave.open(str(tmp_path / "out.wav")) as file:
        made = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    # The same with our own modules, loop and the example's noise.
    with torch.inference_mode():
        audio = torch.from_numpy(music.astype(np.float32) / 32768)[None, None]
        codes = opened("mini_vamp", "encoder").module(functional.pad(audio, (0, -audio.shape[-1] % CODES.hop)))
        kept, noise = torch.arange(codes.shape[2]) % 7 == 0, NumpyNoise(0)
        for name, steps in (("coarse", 12), ("c2f", 2)):
            module: Any = opened("mini_vamp", name).module
            books = module.config.n_codebooks
            mask = (~kept).expand(1, books, -1).clone()
            mask[:, : module.config.n_conditioning_codebooks] = False
            how = PassConfig(steps=steps, typical=False)
            codes[:, :books] = generate(module, codes[:, :books], mask, how, noise)
        sound = opened("mini_vamp", "decoder").module(codes)[0, 0].numpy()
    assert len(flatten_books(codes)[0]) == codes[0].numel()
    assert np.abs(made - np.clip(sound, -1, 1) * 32767).max() <= 2
