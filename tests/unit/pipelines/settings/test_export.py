"""Settings of `jukebox export`: wrong ones are one clear error."""

from __future__ import annotations

import pytest

from jukebox_core.errors import ConfigError, DeviceError
from jukebox_core.export.config import ExportConfig
from pipelines.settings.compose import EXPORT, GENERATE, compose


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["graphs=[decod]"], "graphs names 'decod'; mini_vamp has encoder, decoder, coarse, c2f; closest: 'decoder'"),
        (["opset=17"], "opset is 17; it must be from 18 to 20"),
        (["format=tflite"], "format is 'tflite'"),
        (["dtype=int4"], "dtype is 'int4'"),
        (["folder=''"], "folder is empty"),
        (["model=small"], None),
    ],
    ids=str,
)
def test_wrong_settings(overrides: list[str], message: str | None) -> None:
    if message is None:
        assert "step_2" in compose(EXPORT, overrides).chosen
        return
    with pytest.raises(ConfigError) as caught:
        compose(EXPORT, overrides)
    assert message in str(caught.value)


def test_the_engine_is_checked_before_anything_is_loaded() -> None:
    made = compose(GENERATE, ["hardware.engine=onnx"])
    assert (made.hardware.engine, made.hardware.dtype) == ("onnx", "float32")
    with pytest.raises(DeviceError, match="dtype is bfloat16, but engine=onnx computes in float32"):
        compose(GENERATE, ["hardware.engine=onnx", "hardware.dtype=bfloat16"])
    with pytest.raises(DeviceError, match="has no provider 'MyProvider' here"):
        compose(GENERATE, ["hardware.engine=onnx", "hardware.providers=[MyProvider]"])


def test_each_family_names_its_graphs() -> None:
    assert list(compose(EXPORT, []).chosen) == ["encoder", "decoder", "coarse", "c2f"]
    assert list(compose(EXPORT, ["model=mini_mt3"]).chosen) == ["encoder", "start", "step"]
    assert list(compose(EXPORT, ["model=mr_mt3"]).chosen) == ["encoder", "memory", "start", "step"]
    assert list(compose(EXPORT, ["model=yourmt3"]).chosen) == ["start", "step"]
    jukebox = compose(EXPORT, ["model=5b_lyrics", "graphs=[step_2,decoder_0]", "dtype=int8"])
    assert jukebox.chosen == {"decoder_0": ("vqvae",), "step_2": ("level_2",)}
    assert jukebox.how == ExportConfig(dtype="int8")
