"""Training of the codec: what it starts from, its losses, and codebook entries that are never chosen."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from jukebox_core.errors import ConfigError
from jukebox_core.families.vampnet.config import CodecConfig
from jukebox_core.families.vampnet.training.codebooks import CodeUsage, fit_codebooks, k_means
from jukebox_core.families.vampnet.training.codec_step import CodecStep
from jukebox_core.families.vampnet.training.config import (
    CodecLoss,
    CodecNetworks,
    CodecTraining,
    DeadCodes,
    SpectralConfig,
)
from jukebox_core.families.vampnet.training.initialise import lapped_basis, new_codec
from jukebox_core.families.vampnet.training.readiness import check_lapped
from jukebox_core.families.vampnet.training.spectral import distortion_db, mel_filters, scale_invariant_db
from jukebox_core.training.config import LoopConfig

SIZES = CodecConfig(
    sample_rate=8000, encoder_dim=4, encoder_rates=(4, 4), decoder_dim=16, decoder_rates=(4, 4), n_codebooks=3,
    codebook_size=16, codebook_dim=4,
)  # fmt: skip
TRAINING = CodecTraining(
    seconds=0.1,
    networks=CodecNetworks(encoder_dim=4, encoder_rates=(4, 4), decoder_dim=16, decoder_rates=(4, 4)),
    loss=CodecLoss(resolutions=SpectralConfig(windows=(128, 32), mels=(6, 3))),
    loop=LoopConfig(max_steps=1, batch_size=2),
)


def music(items: int = 2, samples: int = 1600, seed: int = 0) -> torch.Tensor:
    """Quiet chords that decay, [B, N]."""
    generator, at = torch.Generator().manual_seed(seed), torch.arange(samples) / SIZES.sample_rate
    hertz = 100 + 900 * torch.rand(items, 4, 1, generator=generator)
    return 0.05 * ((2 * torch.pi * hertz * at).sin() * (-3 * at).exp()).sum(1)


def test_the_pieces_of_the_lapped_transform_add_up_to_the_signal() -> None:
    basis = lapped_basis(16, 16)
    audio = torch.randn(10 * 16)
    made = torch.zeros_like(audio)
    for start in range(0, len(audio) - 16, 16):
        made[start : start + 32] += basis.T @ (basis @ audio[start : start + 32])
    assert torch.allclose(made[16:-16], audio[16:-16], atol=1e-5)


def test_a_lapped_codec_reconstructs_music_before_training_and_a_random_one_does_not() -> None:
    audio = music()[:, None]
    found = {}
    for lapped in (True, False):
        codec = new_codec(SIZES, 0, lapped=lapped).requires_grad_(requires_grad=False)
        made = codec.decoder(codec.encoder(audio))
        found[lapped] = float(scale_invariant_db(audio[:, 0, 32:-32], made[:, 0, 32:-32]))
    assert found[True] > 35, found
    assert found[False] < 5


def test_residual_units_learn_although_they_begin_without_effect() -> None:
    codec = new_codec(SIZES, 0, lapped=True)
    codec.decoder(codec.encoder(music()[:, None])).square().sum().backward()
    unit = codec.encoder.stages[0].units[0]  # type: ignore[union-attr, index]
    assert torch.count_nonzero(unit.conv_2.weight_g) == 0  # type: ignore[union-attr, arg-type]
    assert torch.count_nonzero(unit.conv_2.weight_g.grad) > 0  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder_rates": (2, 5), "decoder_rates": (5, 2)}, r"strides are \[2, 5, 5, 2\]; for initial=lapped"),
        ({"encoder_dim": 1}, "encoder_dim is 1, which gives a stage 2 channels for 4 samples"),
        ({"decoder_dim": 6}, "decoder_dim is 6, which gives a stage 3 channels for 4 samples"),
        ({"codebook_dim": 1}, "codebook_dim is 1; for initial=lapped_transform each needs 2"),
    ],
    ids=str,
)
def test_a_codec_without_room_for_the_transform_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_lapped(replace(SIZES, **changes))  # type: ignore[arg-type]


def test_fitted_codebooks_quantise_better_with_each_book_and_by_distance() -> None:
    codec = new_codec(SIZES, 0, lapped=True)
    with torch.no_grad():
        latents = codec.encoder(music(8)[:, None])
        fit_codebooks(codec, latents.transpose(1, 2).flatten(0, 1), 0)
        errors = [
            float((codec.quantise(latents, count).quantised_BWT - latents).square().mean()) for count in (1, 2, 3)
        ]
        assert errors[0] < 0.5 * float(latents.square().mean())
        assert errors[2] < 0.8 * errors[1] < 0.8 * 0.9 * errors[0]
        # The search by angle finds the entry at the smallest distance, for all but near ties.
        z, rows = codec.books[0].in_proj(latents), codec.books[0].codebook.weight
        nearest = torch.cdist(z.transpose(1, 2), rows[None]).argmin(2)
        assert (codec.books[0].nearest(z) == nearest).float().mean() > 0.9


def test_k_means_of_fewer_points_than_centres() -> None:
    centres, nearest = k_means(torch.randn(3, 2), 8, torch.Generator().manual_seed(0))
    assert centres.shape == (8, 2)
    assert nearest.shape == (3,)


def test_an_entry_that_is_never_chosen_is_replaced_by_a_latent() -> None:
    codec = new_codec(SIZES, 0, lapped=True)
    usage = CodeUsage(3, 16, DeadCodes(decay=0.5, threshold=0.2))
    before = [book.codebook.weight.clone() for book in codec.books]
    with torch.no_grad():
        encoded = codec.encode(torch.zeros(1, 1, 1600))  # silence: one code a book
        shares = [float(usage.update(codec, encoded, torch.Generator().manual_seed(step))) for step in range(4)]
    assert shares[0] == 1.0
    assert min(shares) == pytest.approx(1 / 16)
    latents = encoded.latents_BLT[0].T.split(4, 1)
    for book, old, rows in zip(codec.books, before, latents, strict=True):
        changed = (book.codebook.weight != old).any(1)
        assert int(changed.sum()) == 15
        assert all((row == rows).all(1).any() for row in book.codebook.weight[changed])


def test_a_training_lowers_the_loss() -> None:
    step = CodecStep(new_codec(SIZES, 0, lapped=False), TRAINING).train()
    audio = music(1, 240)
    optimiser = torch.optim.Adam(step.parameters(), 1e-3)
    found = []
    for _ in range(4):
        loss, metrics = step(audio, torch.Generator().manual_seed(0))
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        found.append(float(loss.detach()))
    assert set(metrics) == {"waveform", "spectral", "mel", "codebook", "commitment", "si_sdr", "usage"}
    assert found[-1] < found[0], found


def test_one_backward_pass_trains_codec_and_discriminators_against_each_other() -> None:
    fooling = replace(TRAINING, loss=replace(TRAINING.loss, adversarial=1.0))
    step = CodecStep(new_codec(SIZES, 0, lapped=True), fooling).train()
    target, made = music(), music(seed=1).requires_grad_()
    assert step.discriminators is not None
    added, metrics = step._adversarial(step.discriminators, target, made)
    added.backward()
    assert set(metrics) == {"judged", "fooled", "feature"}
    grads = [parameter.grad.clone() for parameter in step.discriminators.parameters() if parameter.grad is not None]
    step.discriminators.zero_grad()
    step.discriminators.loss(target, made.detach()).backward()
    alone = [parameter.grad for parameter in step.discriminators.parameters()]
    assert all(torch.equal(one, other) for one, other in zip(grads, alone, strict=True))  # type: ignore[arg-type]
    assert made.grad is not None
    assert float(made.grad.abs().sum()) > 0


def test_distances_of_equal_and_of_scaled_audio() -> None:
    audio = music()
    assert float(distortion_db(audio, audio)) < -40
    assert float(distortion_db(audio, 0 * audio)) == pytest.approx(0, abs=1e-2)
    assert float(distortion_db(0 * audio, 0 * audio)) < -20  # silence is no division by 0
    assert float(scale_invariant_db(audio, 0.5 * audio)) > 60


def test_mel_filters_cover_every_frequency_between_their_ends() -> None:
    filters = mel_filters(22050, 2048, 20)
    assert filters.shape == (20, 1025)
    covered = filters.sum(0)[20:800]
    assert float(covered.min()) > 0.99
