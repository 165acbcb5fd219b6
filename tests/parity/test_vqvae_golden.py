"""The VQ-VAE against the golden vectors `vqvae_*` (docs/upstream.md, VQ-VAE, Training)."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from jukebox_core.families.jukebox.checkpoints.renames import VQVAE_RENAMES
from jukebox_core.families.jukebox.checkpoints.upstream import vqvae_config
from jukebox_core.families.jukebox.model.vqvae import VQVAE
from jukebox_core.families.jukebox.training.config import Bandwidths, LossConfig, Resolution
from jukebox_core.families.jukebox.training.losses import commitment_loss, vqvae_loss
from jukebox_core.models.checkpoints.checkpoint import load_into, open_checkpoint
from tests.helpers.engines import prepared_vqvae

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

BUNDLES = ("vqvae_tiny", "vqvae_official")
AUDIO_ATOL = 1e-4  # docs/upstream.md, Tolerances
FEATURES = {"atol": 2e-5, "rtol": 1e-4}
# The loss and its metrics are means and norms of all samples, so rounding of single samples averages out.
METRIC_RTOL = 1e-5


class Bundle:
    """One bundle: its arrays, its model and the metadata of its checkpoint."""

    def __init__(self, golden: Path, name: str) -> None:
        self.folder = golden / name
        self.arrays = {key: torch.from_numpy(value) for key, value in np.load(self.folder / "io.npz").items()}
        own = self.folder / "models/5b"
        weights = own if own.is_dir() else golden / "zoo/models/5b"
        self.hps = json.loads((weights / "vqvae.hps.json").read_text())
        with torch.device("meta"):
            self.model = VQVAE(vqvae_config(self.hps))
        load_into(self.model, open_checkpoint(weights / "vqvae.pth.tar"), VQVAE_RENAMES)
        prepared_vqvae(self.model.eval())

    @property
    def signals(self) -> list[str]:
        return sorted(key.removesuffix(".x") for key in self.arrays if key.endswith(".x"))

    def mono(self, key: str) -> Tensor:
        return self.arrays[key][..., 0]


_open = cache(Bundle)


@pytest.fixture(params=BUNDLES)
def bundle(request: pytest.FixtureRequest, golden: Path) -> Bundle:
    folder = golden / request.param
    if not (folder / "io.npz").is_file():
        pytest.skip(f"{folder / 'io.npz'} is absent")
    return _open(golden, request.param)


@torch.no_grad()
def test_features_before_quantisation(bundle: Bundle) -> None:
    checked = 0
    for signal in bundle.signals:
        for level in range(bundle.model.config.levels):
            features = bundle.model.features(bundle.mono(f"{signal}.x"), level)
            torch.testing.assert_close(features, bundle.arrays[f"{signal}.enc_l{level}"], **FEATURES)
            checked += 1
    assert checked


def test_codes(bundle: Bundle) -> None:
    for signal in bundle.signals:
        codes = bundle.model.encode(bundle.mono(f"{signal}.x"))
        assert len(codes) == bundle.model.config.levels
        for level, found in enumerate(codes):
            assert torch.equal(found, bundle.arrays[f"{signal}.codes_l{level}"].long()), (signal, level)


def test_audio_from_every_start_level(bundle: Bundle) -> None:
    checked = 0
    for key, expected in bundle.arrays.items():
        case, _, output = key.partition(".dec_start")
        if not output:
            continue
        codes = bundle.arrays[f"{case}.{'z' if case == 'randcodes' else 'codes'}_l{output}"]
        audio = bundle.model.decode(codes, int(output))
        torch.testing.assert_close(
            audio, expected[..., 0], atol=AUDIO_ATOL, rtol=0, msg=lambda m, key=key: f"{key}: {m}"
        )
        checked += 1
    assert checked


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.05, 0.3, 0.99])
def test_pieces_change_nothing(bundle: Bundle, share: float) -> None:
    hops = bundle.model.config.hops
    for signal in bundle.signals:
        audio = bundle.mono(f"{signal}.x")
        piece = max(hops[-1], int(share * audio.shape[1]))
        for level, codes in enumerate(bundle.model.encode(audio, chunk=piece)):
            assert torch.equal(codes, bundle.arrays[f"{signal}.codes_l{level}"].long()), (signal, level)
            decoded = bundle.model.decode(codes, level, chunk=piece // hops[level])
            expected = bundle.mono(f"{signal}.dec_start{level}")
            torch.testing.assert_close(decoded, expected, atol=AUDIO_ATOL, rtol=0)


@pytest.mark.slow
def test_pieces_of_long_sound_change_nothing(bundle: Bundle) -> None:
    """Long enough that a piece and its halo are a part of the whole at every level, at the model's true dilations."""
    model = bundle.model
    reach = max(level.decoder_reach() * hop for level, hop in zip(model.levels, model.config.hops, strict=True))
    signal = bundle.mono("noise.x")[:1]
    audio = signal.repeat(1, 4 * reach // signal.shape[1] + 1)[:, : 4 * reach + 77]
    whole = model.encode(audio, chunk=audio.shape[1])
    for level, codes in enumerate(model.encode(audio, chunk=reach)):
        # Other lengths take other kernels: a feature vector between two codewords may fall to the other side.
        assert (codes == whole[level]).float().mean() > 0.999
        tokens = reach // model.config.hops[level]
        decoded = model.decode(whole[level], level, chunk=tokens)
        expected = model.decode(whole[level], level, chunk=whole[level].shape[1])
        torch.testing.assert_close(decoded, expected, atol=AUDIO_ATOL, rtol=0)


def _loss_config(hps: dict, bandwidths: dict) -> LossConfig:
    sizes = zip(
        hps["multispec_loss_n_fft"], hps["multispec_loss_hop_length"], hps["multispec_loss_window_size"], strict=True
    )
    return LossConfig(
        bandwidths=Bandwidths(**bandwidths),
        l1=hps["lmix_l1"],
        l2=hps["lmix_l2"],
        linf=hps["lmix_linf"],
        linf_k=hps["linf_k"],
        spectral=hps["spectral"],
        multispectral=hps["multispectral"],
        commit=hps["commit"],
        resolutions=tuple(Resolution(n_fft=n_fft, hop=hop, window=window) for n_fft, hop, window in sizes),
    )


@torch.no_grad()
def test_loss_and_metrics_of_an_evaluation(bundle: Bundle) -> None:
    path = bundle.folder / "evalforward.json"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    golden, model = json.loads(path.read_text()), bundle.model
    audio = bundle.mono("noise.x")
    outputs, commitments = [], []
    for level in range(model.config.levels):
        features = model.features(audio, level)
        codes = model.quantise(features, level)
        outputs.append(model.decode(codes, level))
        commitments.append(commitment_loss(features, model.dequantise(codes, level)))
    torch.testing.assert_close(outputs[0], bundle.mono("evalforward.x_out"), atol=AUDIO_ATOL, rtol=0)

    loss, metrics = vqvae_loss(audio, outputs, commitments, _loss_config(bundle.hps, golden["bandwidth"]))
    assert loss.item() == pytest.approx(golden["loss"], rel=METRIC_RTOL)
    assert {name: value.item() for name, value in metrics.items()} == pytest.approx(golden["metrics"], rel=METRIC_RTOL)
