"""``hardware.engine=onnx`` on the command line: the same store, keys and tokens; graphs that are there are used."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from jukebox_core.export.config import ExportConfig
from jukebox_core.export.record import graph_key
from jukebox_core.models.presets import load_preset
from pipelines.execution.variation import run_settings
from pipelines.settings.compose import VAMP, compose
from tests.helpers.exports import files
from tests.helpers.plain_flows import make_plainly

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.exports import Exports

GRAPHS = {"encoder": ("codec",), "decoder": ("codec",), "coarse": ("coarse", "codec"), "c2f": ("c2f", "codec")}


@pytest.mark.slow
@pytest.mark.endurance
@pytest.mark.timeout(1800)
def test_variations_are_those_of_the_other_engine(
    exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    preset, made = load_preset("mini_vamp"), exports.folder("mini_vamp", *GRAPHS)
    for name, roles in GRAPHS.items():
        weights = {role: identity for role, (_, identity) in files(preset, *roles).items()}
        key = graph_key("vampnet", preset.config, name, weights, ExportConfig())
        folder = tmp_path / "cache/jukebox/graphs" / key[:32]
        folder.mkdir(parents=True)
        for suffix in ("onnx", "json"):
            shutil.copy(made / f"{name}.{suffix}", folder)
    codes, keys = [], []
    for engine in ("eager", "onnx"):
        overrides = ["audio=['builtin:tune']", "seconds=2", f"hardware.engine={engine}", f"storage.tokens={engine}"]
        run = make_plainly(run_settings(compose(VAMP, ["model=mini_vamp", *overrides, f"run.name={engine}"])))
        with np.load(run.path / "codes/sample_0.npz") as opened:
            codes.append({name: opened[name] for name in opened.files if name.startswith("level_")})
        keys.append(run.manifest()["takes"])
    assert codes[0].keys() == codes[1].keys() == {"level_0", "level_1"}
    for name, each in codes[0].items():
        np.testing.assert_array_equal(each, codes[1][name])
    assert keys[0] == keys[1]
