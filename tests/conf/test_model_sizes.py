"""The hyperparameters in conf/model/ are the released ones: the tensors they make weigh what the files weigh."""

from __future__ import annotations

import re

import pytest
import torch

from jukebox_core.families.jukebox.model.prior import Prior
from jukebox_core.families.jukebox.model.vqvae import VQVAE
from jukebox_core.models.presets import load_preset

RELEASED = ("1b_lyrics", "5b", "5b_lyrics")
CONTAINER = 400  # bytes a tensor's name, shape and alignment may take in its file
# In the 5b top priors, the fully connected layers of the transformer and of the lyric state are stored in half.
HALF = re.compile(r"(.*\.)?(project_in|project_out|project_encoder|lyric_encoder\.project)\.weight")


def tensor_bytes(module: torch.nn.Module, *, half: bool) -> int:
    return sum(t.numel() * (2 if half and HALF.fullmatch(name) else 4) for name, t in module.named_parameters())


@pytest.mark.parametrize(("name", "level"), [("5b", 0), ("5b", 1), *((name, 2) for name in RELEASED)], ids=str)
def test_a_prior_weighs_what_its_file_weighs(name: str, level: int) -> None:
    model = load_preset(name)
    with torch.device("meta"):
        prior = Prior(model.network.priors[level], model.network.vqvae)
    found = tensor_bytes(prior, half=level == 2 and name != "1b_lyrics")
    spec = model.files.weights[f"level_{level}"]
    if spec.bytes is not None:
        assert 0 < spec.bytes - found < CONTAINER * len(list(prior.parameters()))
    else:
        assert spec.about_bytes == pytest.approx(found, rel=2e-4)


def test_the_vqvae_weighs_what_its_file_weighs() -> None:
    model = load_preset("5b")
    with torch.device("meta"):
        vqvae = VQVAE(model.network.vqvae)
    state = vqvae.state_dict()
    size = model.files.weights["vqvae"].bytes
    assert size is not None
    assert 0 < size - sum(t.numel() * 4 for t in state.values()) < CONTAINER * len(state)


def layer(width: int, *, inner: int | None = None) -> int:
    """Parameters of a layer: attention a quarter as wide, a feed-forward layer as wide, two norms."""
    inner = inner or width // 4
    attention = 4 * inner * width + 3 * inner + width
    return attention + 2 * (width * width + width) + 4 * width


LABELS = 1024 * (100 + 10 + 3 * 64)
ENCODER = 9 * layer(256) + 256 * (79 + 384 + 1) + (256 * 1024 + 1024) + 2 * 1024 + 79 * 1024


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("small_prior", 48 * layer(1024) + 1024 * (1024 + 8192 + 1)),
        ("small_labelled_prior", 48 * layer(1024) + 1024 * (1024 + 8192) + LABELS),
        ("small_single_enc_dec_prior", 48 * layer(1024) + 1024 * (1024 + 79 + 6144 + 384) + LABELS),
        ("small_sep_enc_dec_prior", 50 * layer(1024) + 1024 * (1024 + 6144) + LABELS + ENCODER),
    ],
)
def test_the_originals_small_priors_have_its_sizes(name: str, parameters: int) -> None:
    model = load_preset(name)
    with torch.device("meta"):
        top, upsampler = (
            Prior(model.network.priors[1], model.network.vqvae),
            Prior(model.network.priors[0], model.network.vqvae),
        )
        vqvae = VQVAE(model.network.vqvae)
    assert sum(parameter.numel() for parameter in top.parameters()) == parameters
    assert model.network.vqvae.hops == (32, 256)
    assert [level.codebook.shape for level in vqvae.levels] == [(1024, 64), (1024, 64)]
    convolution = 3 * 512 * 512 + 512 + 512 * 512 + 512  # a dilated one and one that looks at one position
    ways = 3 * (16 * convolution) + 2 * (4 * 512 * 512 + 512) + (4 * 512 * 1024 + 1024)
    conditioner = 1024 * 1024 + (3 * 1024 * 512 + 512) + ways + 2 * 1024
    assert sum(p.numel() for p in upsampler.parameters()) == 48 * layer(1024) + 1024 * (1024 + 8192 + 1) + conditioner
