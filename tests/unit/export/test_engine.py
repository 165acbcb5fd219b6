"""``hardware.engine=onnx`` with settings that graphs cannot compute with."""

from __future__ import annotations

import pytest

from jukebox_core.errors import ConfigError, DeviceError
from jukebox_core.export import extra
from jukebox_core.export.engine import check_hardware
from jukebox_core.family import open_transcribing
from jukebox_core.models.presets import load_preset
from jukebox_core.runtime.config import HardwareConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dtype": "bfloat16"}, "hardware.dtype is bfloat16, but engine=onnx computes in float32"),
        ({"providers": ("TensorrtExecutionProvider",)}, "onnxruntime has no provider 'TensorrtExecutionProvider' here"),
    ],
    ids=str,
)
def test_what_graphs_cannot_do(values: dict[str, object], message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        check_hardware(HardwareConfig(engine="onnx", **values))  # type: ignore[arg-type]


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extra, "find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"hardware.engine=onnx needs onnxruntime, which is not"):
        check_hardware(HardwareConfig(engine="onnx"))


def test_providers_are_named() -> None:
    with pytest.raises(ConfigError, match="providers is empty"):
        HardwareConfig(providers=())


def test_a_perceiver_has_no_graph(tmp_path: object) -> None:
    config = load_preset("yourmt3").config
    with pytest.raises(ConfigError, match="model yourmt3 has no graph of its encoder, a Perceiver"):
        open_transcribing("mt3").open_transcriber(config, tmp_path, HardwareConfig(engine="onnx"))  # type: ignore[arg-type]
