"""The benchmark of features runs on a small model, and its peer computes what ours does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import torch

from benchmarks.features import probe, speed
from benchmarks.features.layers import Layers
from jukebox_core.families.jukebox.features.activations import layer_outputs
from tests.e2e.pages.test_benchmarks import last_line
from tests.helpers.models.tiny_priors import VQVAE, tiny_codes, tiny_condition, tiny_prior

if TYPE_CHECKING:
    from pathlib import Path


def test_the_peer_computes_what_ours_does() -> None:
    ours = tiny_prior("top")
    config, codes_BT, condition = ours.config, tiny_codes(ours), tiny_condition(ours)
    peer = Layers(config, 4, VQVAE.bins)
    peer.copy_from(ours)
    assert condition.signal_BTW is not None
    found = dict(peer(codes_BT, condition.start_B1W, condition.signal_BTW, [1, 2, 3, 4]))
    for expected in layer_outputs(ours, codes_BT, condition, [1, 2, 3, 4]):
        torch.testing.assert_close(found[expected.layer], expected.x_BTW, atol=2e-5, rtol=1e-4)
    assert all(cast("Any", block).cache is None for block in peer.blocks)


@pytest.mark.slow
@pytest.mark.endurance
def test_features_are_measured() -> None:
    result = last_line("benchmarks.features", "--model", "mini", "--quick", "--threads", "1")
    window, folder = result["window"], result["folder"]
    assert [row["name"] for row in window["rows"]] == [speed.PEER, *speed.PRECISIONS]
    assert not window["whole_window"]
    for row in window["rows"]:
        assert row["cpu_s"] > 0
        assert row["peak_bytes"] > row["base_bytes"]
        assert row["times_cpu"] == pytest.approx(window["rows"][0]["cpu_s"] / row["cpu_s"])
    assert 0.1 < folder["products_share"] < 1
    assert 0 <= folder["waiting_for_audio_share"] < 0.5


def test_a_probe_finds_what_is_there_and_nothing_else() -> None:
    noise = np.random.default_rng(0)
    labels = np.array(["a", "b", "c"] * 40)
    values = noise.standard_normal((120, 50))
    assert probe.probe(values, labels) < 0.55
    values[:, :3] += 6 * (labels[:, None] == np.unique(labels))
    assert probe.probe(values, labels) > 0.95


@pytest.mark.slow
def test_the_accuracy_of_layers_is_measured_and_drawn(tmp_path: Path) -> None:
    drawn = tmp_path / "probe.svg"
    arguments = ("--songs", "12", "--seconds", "0.5", "--picture", str(drawn))
    result = last_line("benchmarks.features.probe", *arguments)
    assert len(result["rows"]) == 2 * 16 + 3 + 2
    assert all(0 <= row[what] <= 1 for row in result["rows"] for what in ("genre", "artist"))
    lines = ET.fromstring(drawn.read_text()).findall("{http://www.w3.org/2000/svg}polyline")
    assert [len(line.attrib["points"].split()) for line in lines] == [16, 16]
