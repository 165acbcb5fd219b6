"""Exports without a family: a graph of two layers, refused when it is wrong, resumed, never partial."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from jukebox_core.errors import CheckpointError, ConfigError, DeviceError, DiskError, NumericsError
from jukebox_core.export import export, extra
from jukebox_core.export.compare import TOLERANCES, compare, reasons_against, signal_to_noise
from jukebox_core.export.config import ExportConfig
from jukebox_core.export.export import export_graph
from jukebox_core.export.graph import Graph, Port
from jukebox_core.export.record import graph_key, is_finished, read_graph_record
from jukebox_core.export.session import Session
from jukebox_core.export.storage import store_bytes, store_halves
from jukebox_core.export.weights import find_tensors, tensors_of
from jukebox_core.family import open_exporting

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Generator

    from jukebox_core.export.graph import Sizes

SOURCE = {"key": "k" * 64, "model": "tiny", "family": "none", "weights": {"net": "a" * 64}}


class Net(nn.Module):
    """A table, a product and a convolution that can become one; one tensor is not used."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.table = nn.Embedding(7, 8)
            self.inner = nn.Linear(8, 16)
            self.classifier = nn.Conv1d(16, 7, 1)
            self.idle = nn.Linear(3, 3)

    def forward(self, ids_BT: Tensor) -> Tensor:
        self.idle(torch.ones(3))
        x_BTW = self.inner(self.table(ids_BT)).tanh()
        return self.classifier(x_BTW.mT).mT


def graph_of(module: nn.Module | None = None, **changed: Any) -> Graph:
    def draw(sizes: Sizes, generator: Generator) -> tuple[Tensor, ...]:
        return (torch.randint(7, (sizes["batch"], sizes["time"]), generator=generator),)

    fields: dict[str, Any] = {
        "name": "net",
        "module": (module or Net()).eval().requires_grad_(requires_grad=False),
        "inputs": (Port("ids", ("batch", "time"), "int64"),),
        "outputs": (Port("logits", ("batch", "time", 7), "float32", "logits"),),
        "example": {"batch": 2, "time": 5},
        "cases": ({"batch": 1, "time": 1}, {"batch": 3, "time": 40}),
        "draw": draw,
        "quantised": ("classifier",),
        "facts": {"sample_rate": 100},
    }
    return Graph(**(fields | changed))


def written(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


class FakeSession:
    """Gives what a module computes, plus an error."""

    def __init__(self, module: nn.Module, error: float) -> None:
        self.module, self.error = module, error

    def run(self, inputs: Mapping[str, Any]) -> list[Any]:
        return [self.module(*(torch.from_numpy(each) for each in inputs.values())).numpy() + self.error]


@pytest.mark.parametrize(("error", "good"), [(0.0, True), (9e-5, True), (2e-4, False), (np.nan, False)])
def test_logits_may_differ_by_little(error: float, good: bool) -> None:
    graph = graph_of()
    results = compare(graph, FakeSession(graph.module, error), TOLERANCES["float32"])  # type: ignore[arg-type]
    assert [each.good for each in results] == [good, good]
    assert bool(reasons_against(results, TOLERANCES["float32"])) != good


def test_an_output_of_another_shape_is_not_good() -> None:
    graph = graph_of()
    session = FakeSession(nn.Sequential(graph.module, nn.Flatten()), 0.0)
    assert not any(each.good for each in compare(graph, session, TOLERANCES["int8"]))  # type: ignore[arg-type]


def test_the_ratio_of_signal_to_noise() -> None:
    sound = np.full(1000, 0.5, np.float32)
    assert signal_to_noise(sound, sound) is None
    assert signal_to_noise(sound, sound + np.float32(0.005)) == pytest.approx(40, abs=0.01)


def test_tensors_are_found_by_value() -> None:
    tensors = tensors_of(Net())
    arrays = {name: each.detach().numpy() for name, each in tensors.items()}
    table = np.concatenate([np.zeros((2, 8), np.float32), arrays["table.weight"]])
    constants = [arrays["inner.weight"].T, arrays["inner.bias"], arrays["classifier.weight"][:, :, 0], table]
    found = find_tensors(tensors, constants)
    assert set(found.found) == {"inner.weight", "inner.bias", "classifier.weight", "table.weight"}
    assert set(found.missing) == {"classifier.bias", "idle.weight", "idle.bias"}
    changed = arrays["inner.weight"].T.copy()
    changed[0, 0] += 1e-6
    assert "inner.weight" in find_tensors(tensors, [changed]).missing
    assert find_tensors({"bias": torch.zeros(3)}, []).zeros == ("bias",)


def test_a_family_without_graphs_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jukebox_core.family.open_family", lambda _name: object())
    with pytest.raises(ConfigError, match="models of the family dummy have no graphs to export"):
        open_exporting("dummy")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"opset": 17}, "opset is 17; it must be from 18 to 20"),
        ({"graphs": ()}, "graphs is empty"),
        ({"inline_bytes": 3_000_000_000}, "inline_bytes is 3000000000"),
    ],
    ids=str,
)
def test_settings_out_of_range(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ExportConfig(**values)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(extra, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(
        ConfigError, match=r"onnxscript, which is not installed; pip install 'jukebox-pipelines\[onnx\]'"
    ):
        export_graph(graph_of, tmp_path, "net", ExportConfig(), SOURCE)
    assert not written(tmp_path)


def test_a_key_is_of_weights_and_settings() -> None:
    keys = {
        graph_key("f", {"width": 3}, name, {"net": weights}, ExportConfig(dtype=dtype))
        for name in ("a", "b")
        for weights in ("x", "y")
        for dtype in ("float32", "int8")
    }
    assert len(keys) == 8
    assert graph_key("f", {}, "a", {}, ExportConfig(graphs=("a",))) == graph_key("f", {}, "a", {}, ExportConfig())


def test_a_session_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no graph .*absent\.onnx; export the model again"):
        Session(tmp_path / "absent.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    with pytest.raises(CheckpointError, match=r"bad\.onnx cannot be loaded"):
        Session(tmp_path / "bad.onnx")
    with pytest.raises(DeviceError, match="onnxruntime has no provider 'CUDAExecutionProvidr' here; choose one of"):
        Session(tmp_path / "bad.onnx", ("CUDAExecutionProvidr",))


def test_a_full_disk_is_found_before_the_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(export.shutil, "disk_usage", lambda _folder: type("Usage", (), {"free": 100}))
    with pytest.raises(DiskError, match=r"net needs about .* kB in .*, where 100 B are free"):
        export_graph(graph_of, tmp_path, "net", ExportConfig(), SOURCE)
    assert not written(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("opset", [18, 20])
def test_a_graph_is_written_with_its_record_once(tmp_path: Path, opset: int) -> None:
    (tmp_path / ".net.partial").mkdir()  # of a process that was killed
    (tmp_path / ".net.partial/net.onnx").write_bytes(b"half")
    config = ExportConfig(opset=opset)
    path = export_graph(graph_of, tmp_path, "net", config, SOURCE)
    assert written(tmp_path) == ["net.json", "net.onnx"]
    record = read_graph_record(path)
    assert record["report"]["tensors"] == 5
    assert record["report"]["unused"] == ["idle.bias", "idle.weight"]
    assert record["inputs"] == [{"name": "ids", "shape": ["batch", "time"], "dtype": "int64"}]
    assert (record["opset"], record["application"], record["weights"]) == (
        opset,
        {"sample_rate": 100},
        SOURCE["weights"],
    )
    assert all(each["good"] and each["error"] < 1e-5 for each in record["report"]["cases"])
    assert b"/work/" not in (tmp_path / "net.onnx").read_bytes(), "the graph holds paths of this machine"

    def unexpected() -> Graph:
        raise AssertionError("the graph is there")

    assert export_graph(unexpected, tmp_path, "net", config, SOURCE) == path
    (tmp_path / "net.onnx").write_bytes(b"damaged")
    assert not is_finished(tmp_path, "net", SOURCE["key"])
    assert not is_finished(tmp_path, "net", "another")


@pytest.mark.slow
def test_a_graph_that_computes_something_else_is_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wrong = Net()
    torch.nn.init.ones_(wrong.table.weight)
    monkeypatch.setattr(export, "compare", lambda _graph, *rest: compare(graph_of(wrong), *rest))
    with pytest.raises(NumericsError, match="net does not compute what the model does, and was not kept"):
        export_graph(graph_of, tmp_path, "net", ExportConfig(), SOURCE)
    assert not written(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_weights_beside_a_graph(tmp_path: Path, dtype: Any) -> None:
    config = ExportConfig(inline_bytes=1024, dtype=dtype)
    path = export_graph(lambda: graph_of(wide()), tmp_path, "net", config, SOURCE)
    assert written(tmp_path) == ["net.json", "net.onnx", "net.onnx.data"]
    assert set(json.loads(path.read_text())["files"]) == {"net.onnx", "net.onnx.data"}
    Session(tmp_path / "net.onnx")
    (tmp_path / "net.onnx.data").unlink()
    with pytest.raises(CheckpointError, match=r"net\.onnx\.data is missing, which holds the weights of net\.onnx"):
        Session(tmp_path / "net.onnx")


def wide() -> nn.Module:
    """A network with more weights, which int8 makes smaller."""
    net = Net()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net.table, net.inner, net.classifier = nn.Embedding(7, 64), nn.Linear(64, 64), nn.Conv1d(64, 7, 1)
    return net


@pytest.mark.parametrize("bias", [True, False])
def test_int8_stores_the_classifier_too(tmp_path: Path, bias: bool) -> None:
    """A convolution whose bias is zeros has none in the graph."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = np.random.default_rng(0).normal(size=(70, 64, 1)).astype(np.float32)
    given = [numpy_helper.from_array(weight, "classifier.weight")]
    given += [numpy_helper.from_array(np.ones(70, np.float32), "classifier.bias")] if bias else []
    nodes = [helper.make_node("Conv", ["x", *(each.name for each in given)], ["y"])]
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width, "time"])
        for name, width in (("x", 64), ("y", 70))
    ]
    graph = helper.make_graph(nodes, "net", ports[:1], ports[1:], given)
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    x = np.random.default_rng(1).normal(size=(2, 64, 5)).astype(np.float32)
    [before] = Session(path).run({"x": x})
    store_bytes(path, ("classifier",), inline_bytes=10_000_000)
    model = onnx.load(path)
    assert "Conv" not in [node.op_type for node in model.graph.node]
    assert [each.name for each in model.graph.initializer if each.data_type == TensorProto.INT8]
    [after] = Session(path).run({"x": x})
    assert 0 < np.abs(before - after).max() < 0.02 * np.abs(before).max()


def tied_graph(path: Path) -> dict[str, Any]:
    """A table that is also the matrix of a product, one of a product alone, and a bias; returns an input."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    table, inner = (random.normal(size=size).astype(np.float32) for size in ((50, 64), (64, 64)))
    given = [("table", table), ("inner", inner), ("bias", np.ones(64, np.float32))]
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["x"]),
        helper.make_node("MatMul", ["x", "inner"], ["y"]),
        helper.make_node("Add", ["y", "bias"], ["z"]),
        helper.make_node("Gemm", ["z", "table"], ["logits"], transB=1),
    ]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 50])
    graph = helper.make_graph(nodes, "net", [ids], [logits], [numpy_helper.from_array(x, name) for name, x in given])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return {"ids": np.arange(7)}


@pytest.mark.parametrize(
    ("store", "share", "error"), [(store_halves, 0.55, 1e-3), (store_bytes, 0.32, 2e-2)], ids=["float16", "int8"]
)
@pytest.mark.parametrize("inline_bytes", [1024, 10_000_000])
def test_weights_in_fewer_bits_are_stored_once(
    tmp_path: Path, store: Any, share: float, error: float, inline_bytes: int
) -> None:
    path = tmp_path / "net.onnx"
    given = tied_graph(path)
    [before], size = Session(path).run(given), path.stat().st_size
    store(path, inline_bytes=inline_bytes)
    beside = tmp_path / "net.onnx.data"
    assert beside.exists() == (inline_bytes == 1024)
    assert sum(each.stat().st_size for each in tmp_path.iterdir()) < share * size + 1000
    [after] = Session(path).run(given)
    assert 0 < np.abs(before - after).max() < error * np.abs(before).max()


def test_weights_that_halves_cannot_hold_stay(tmp_path: Path) -> None:
    import onnx
    from onnx import numpy_helper

    path = tmp_path / "net.onnx"
    tied_graph(path)
    model = onnx.load(path)
    [inner] = [each for each in model.graph.initializer if each.name == "inner"]
    inner.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(inner) * np.float32(1e6), "inner"))
    onnx.save(model, path)
    store_halves(path, inline_bytes=10_000_000)
    kinds = {each.name: each.data_type for each in onnx.load(path).graph.initializer}
    assert (kinds["inner"], kinds["table.float16"]) == (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_a_graph_with_weights_in_fewer_bits(tmp_path: Path, dtype: Any) -> None:
    config = ExportConfig(dtype=dtype)
    record = read_graph_record(export_graph(lambda: graph_of(wide()), tmp_path, "net", config, SOURCE))
    assert record["dtype"] == dtype
    assert all(each["good"] and each["error"] > 0 for each in record["report"]["cases"])
