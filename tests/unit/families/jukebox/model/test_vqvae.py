"""The VQ-VAE, its convolutions and its losses on models small enough to reason about."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from jukebox_core.errors import AudioError, CheckpointError, ConfigError, NumericsError
from jukebox_core.families.jukebox.checkpoints.upstream import vqvae_config
from jukebox_core.families.jukebox.config import VQVAEConfig
from jukebox_core.families.jukebox.engines.engines import prepare_vqvae
from jukebox_core.families.jukebox.model import vqvae
from jukebox_core.families.jukebox.model.convnet import Downsampler, ResidualStack, StackConfig, Upsampler
from jukebox_core.families.jukebox.model.streaming import Stream
from jukebox_core.families.jukebox.model.vqvae import VQVAE, LevelCodec
from jukebox_core.families.jukebox.training import losses
from jukebox_core.families.jukebox.training.config import Bandwidths, LossConfig, Resolution

CONFIG = VQVAEConfig(
    sample_rate=44100,
    downs=(2, 1),
    strides=(2, 4),
    multipliers=(2, 1),
    width=4,
    depth=2,
    embedding_width=3,
    bins=11,
    dilation_growth=3,
)
STACK = StackConfig(width=4, depth=5, hidden_width=6, growth=3, cycle=2)


@pytest.fixture
def model() -> VQVAE:
    torch.manual_seed(0)
    model = VQVAE(CONFIG)
    for level in model.levels:
        level.codebook.normal_(std=0.2)
    return model.eval()


def _make_linear(module: nn.Module) -> None:
    """Positive weights and no biases: positive inputs stay positive, no ReLU cuts a path, every dependency shows."""
    for parameter in module.parameters():
        parameter.data = torch.ones_like(parameter) * 0.1 if parameter.dim() > 1 else torch.zeros_like(parameter)


# Convolutions


def test_dilations_grow_cycle_and_reverse() -> None:
    assert STACK.dilations == (1, 3, 1, 3, 1)
    assert dataclasses.replace(STACK, cycle=None).dilations == (1, 3, 9, 27, 81)
    assert dataclasses.replace(STACK, cycle=None, reverse=True).dilations == (81, 27, 9, 3, 1)
    dilated = [block.dilated.dilation for block in ResidualStack(dataclasses.replace(STACK, reverse=True)).blocks]
    assert dilated == [(1,), (3,), (1,), (3,), (1,)]


def test_residual_scale_weighs_each_update() -> None:
    torch.manual_seed(1)
    x_BCT = torch.randn(2, 4, 40)
    whole = ResidualStack(dataclasses.replace(STACK, depth=1))
    half = ResidualStack(dataclasses.replace(STACK, depth=1, scale=0.5))
    half.load_state_dict(whole.state_dict())
    torch.testing.assert_close(half(x_BCT) - x_BCT, (whole(x_BCT) - x_BCT) / 2)


def test_a_block_leaves_its_input_alone() -> None:
    x_BCT = torch.randn(1, 4, 20)
    before = x_BCT.clone()
    ResidualStack(STACK)(x_BCT)
    assert torch.equal(x_BCT, before)


@pytest.mark.parametrize("stride", [2, 4])
def test_resamplers_change_length_by_powers_of_the_stride(stride: int) -> None:
    down = Downsampler(1, 3, times=2, stride=stride, stack=STACK)
    assert down(torch.zeros(2, 1, 5 * stride**2 + 1)).shape == (2, 3, 5)
    up = Upsampler(3, 7, times=2, stride=stride, stack=STACK)
    assert up(torch.zeros(2, 3, 5)).shape == (2, 7, 5 * stride**2)


@pytest.mark.parametrize("kind", [Downsampler, Upsampler])
def test_resamplers_refuse_what_would_not_line_up(kind: type[Downsampler | Upsampler]) -> None:
    with pytest.raises(ConfigError, match="stride is 3; it must be even"):
        kind(1, 3, times=1, stride=3, stack=STACK)
    with pytest.raises(ConfigError, match="at least 1"):
        kind(1, 3, times=0, stride=2, stack=STACK)


# Receptive field


@pytest.mark.parametrize("level", range(CONFIG.levels))
def test_decoder_reach_is_enough_and_hardly_more(level: int) -> None:
    codec = LevelCodec(CONFIG, level)
    _make_linear(codec)
    hop, reach = CONFIG.hops[level], codec.decoder_reach()
    token = reach + 2
    features_BCT = torch.ones(1, CONFIG.embedding_width, 2 * token + 1, requires_grad=True)
    codec.decode(features_BCT)[:, token * hop : (token + 1) * hop].sum().backward()
    read = features_BCT.grad[0].sum(0).nonzero()[:, 0]
    farthest = max(token - int(read[0]), int(read[-1]) - token)
    assert farthest <= reach <= farthest + sum(CONFIG.downs[: level + 1])


# Chunks


def test_a_chunk_must_be_positive(model: VQVAE) -> None:
    with pytest.raises(ConfigError, match="chunk is 0"):
        model.encode(torch.randn(1, 64), chunk=0)
    with pytest.raises(ConfigError, match="chunk is -1"):
        model.decode(torch.zeros(1, 4, dtype=torch.int64), 0, chunk=-1)


@pytest.mark.parametrize("length", [16, 163, 4000])
def test_streams_agree_with_the_whole_at_every_level(model: VQVAE, length: int) -> None:
    audio_BT = torch.randn(2, length)
    for level, codec in enumerate(model.levels):
        features_BCT = model.features(audio_BT, level)
        streams = [Stream(codec.encoder) for _ in audio_BT]
        rows = [stream.feed(audio_T[:, None], last=True) for stream, audio_T in zip(streams, audio_BT, strict=True)]
        torch.testing.assert_close(torch.stack(rows).transpose(1, 2), features_BCT)
        codes_BT = model.quantise(features_BCT, level)
        whole_BT = codec.decode(model.dequantise(codes_BT, level))
        for chunk in (1, 7, codes_BT.shape[1]):
            torch.testing.assert_close(model.decode(codes_BT, level, chunk=chunk), whole_BT)


def test_memory_is_bounded_by_the_chunk_for_any_length(model: VQVAE, monkeypatch: pytest.MonkeyPatch) -> None:
    largest = []
    feed = Stream.feed

    def watch(stream: Stream, x_TI: Tensor, *, last: bool) -> Tensor:
        largest.append(max(len(x_TI), *(_buffered_rows(layer) for layer in stream._layers)))
        return feed(stream, x_TI, last=last)

    monkeypatch.setattr(Stream, "feed", watch)
    for length in (20_000, 80_000):
        model.encode(torch.randn(1, length), levels=[0], chunk=1000)
        model.decode(torch.zeros(1, length // 10, dtype=torch.int64), 0, chunk=100)
    assert max(largest) == 1000
    assert len(largest) == 20 + 20 + 80 + 80


def _buffered_rows(layer: object) -> int:
    """Returns the number of rows that a layer buffers."""
    buffered = getattr(layer, "_buffered_TI", None)
    if hasattr(layer, "_rows"):
        buffered = layer._rows._buffered_TI
    return 0 if buffered is None else len(buffered)


# Interface


def test_shapes_and_types(model: VQVAE) -> None:
    codes = model.encode(torch.randn(2, 163))
    assert [tuple(level.shape) for level in codes] == [(2, 163 // hop) for hop in CONFIG.hops]
    assert all(level.dtype == torch.int64 for level in codes)
    audio = model.decode(codes[1], 1)
    assert audio.shape == (2, 160)
    assert audio.dtype == torch.float32
    assert not audio.requires_grad
    assert model.decode(torch.zeros(2, 0, dtype=torch.int64), 0).shape == (2, 0)


def test_only_the_levels_asked_for_in_that_order(model: VQVAE) -> None:
    audio_BT = torch.randn(1, 160)
    bottom, top = model.encode(audio_BT)
    codes = model.encode(audio_BT, levels=[1, 0])
    assert torch.equal(codes[0], top)
    assert torch.equal(codes[1], bottom)


def test_int32_codes_decode_like_int64(model: VQVAE) -> None:
    codes = torch.randint(0, CONFIG.bins, (1, 20))
    assert torch.equal(model.decode(codes.int(), 0), model.decode(codes, 0))


def test_audio_is_not_clamped(model: VQVAE) -> None:
    model.levels[0].output.bias.data.fill_(5.0)
    assert model.decode(torch.zeros(1, 4, dtype=torch.int64), 0).max() > 2


def test_quantise_takes_the_nearest_and_the_first_of_equals(model: VQVAE, monkeypatch: pytest.MonkeyPatch) -> None:
    features_BCT = torch.randn(2, CONFIG.embedding_width, 30)
    codebook_VC = model.levels[0].codebook
    nearest = torch.cdist(features_BCT.transpose(1, 2), codebook_VC.expand(2, -1, -1)).argmin(-1)
    assert torch.equal(model.quantise(features_BCT, 0), nearest)
    monkeypatch.setattr(vqvae, "QUANTISED_ROWS", 7)
    assert torch.equal(model.quantise(features_BCT, 0), nearest)
    codebook_VC[:] = codebook_VC[3]
    assert not model.quantise(features_BCT, 0).any()


def test_codewords_quantise_to_themselves(model: VQVAE) -> None:
    codes = torch.arange(CONFIG.bins)[None]
    assert torch.equal(model.quantise(model.dequantise(codes, 1), 1), codes)


def test_builds_on_meta_and_takes_weights_by_assignment(model: VQVAE) -> None:
    with torch.device("meta"):
        empty = VQVAE(CONFIG)
    assert all(tensor.is_meta for tensor in empty.state_dict().values())
    empty.load_state_dict(model.state_dict(), strict=True, assign=True)
    codes = torch.randint(0, CONFIG.bins, (1, 8))
    assert torch.equal(empty.decode(codes, 1), model.decode(codes, 1))
    assert not any(tensor.is_meta for tensor in [*empty.parameters(), *empty.buffers()])


def test_features_carry_gradients(model: VQVAE) -> None:
    model.features(torch.randn(1, 64), 1).sum().backward()
    assert model.levels[1].encoder[0].layers[0].strided.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("level", [-1, 2])
def test_unknown_levels_are_refused(model: VQVAE, level: int) -> None:
    for call in (
        lambda: model.encode(torch.randn(1, 64), levels=[level]),
        lambda: model.decode(torch.zeros(1, 4, dtype=torch.int64), level),
        lambda: model.features(torch.randn(1, 64), level),
    ):
        with pytest.raises(ConfigError, match=f"level is {level}; choose one of 0"):
            call()


def test_audio_that_gives_no_token_is_refused(model: VQVAE) -> None:
    with pytest.raises(AudioError, match="audio has 15 samples; level 1 needs at least 16"):
        model.encode(torch.randn(1, 15))
    with pytest.raises(AudioError, match=r"\[batch, samples\]"):
        model.encode(torch.randn(1, 64, 1))
    with pytest.raises(AudioError, match="int64"):
        model.encode(torch.zeros(1, 64, dtype=torch.int64))


@pytest.mark.parametrize("wrong", [-1, CONFIG.bins])
def test_codes_of_another_codebook_are_refused(model: VQVAE, wrong: int) -> None:
    with pytest.raises(ConfigError, match="this codebook has 0 to 10"):
        model.decode(torch.tensor([[0, wrong]]), 0)


def test_codes_of_the_wrong_form_are_refused(model: VQVAE) -> None:
    with pytest.raises(ConfigError, match=r"\[batch, tokens\]"):
        model.decode(torch.zeros(4, dtype=torch.int64), 0)
    with pytest.raises(ConfigError, match="float32"):
        model.decode(torch.zeros(1, 4), 0)


def test_a_missing_hyperparameter_is_named() -> None:
    with pytest.raises(CheckpointError, match="'sr'"):
        vqvae_config({})


# Losses


def test_time_domain_losses_by_hand() -> None:
    target_BT, output_BT = torch.zeros(2, 4), torch.tensor([[0.0, 1, -2, 3], [1, 1, 1, 1]])
    sizes = Bandwidths(l1=0.5, l2=0.25)
    assert losses.l1_loss(target_BT, output_BT, sizes).item() == pytest.approx(10 / 8 / 0.5)
    assert losses.l2_loss(target_BT, output_BT, sizes).item() == pytest.approx(18 / 8 / 0.25)
    assert losses.linf_loss(target_BT, output_BT, sizes, 2).item() == pytest.approx((9 + 4 + 1 + 1) / 4 / 0.25)
    config = LossConfig(l1=2.0, l2=3.0, linf=4.0, linf_k=1)
    expected = 2 * 10 / 8 + 3 * 18 / 8 + 4 * (9 + 1) / 2
    assert losses.reconstruction_loss(target_BT, output_BT, config).item() == pytest.approx(expected)


def test_linf_without_weight_needs_no_length() -> None:
    config = LossConfig(linf=0.0)
    assert losses.reconstruction_loss(torch.zeros(1, 10), torch.ones(1, 10), config).item() == pytest.approx(1.0)


def test_spectral_losses_of_equal_and_silent_sound() -> None:
    config = LossConfig()
    sound_BT, silence_BT = torch.randn(2, 4096), torch.zeros(2, 4096)
    assert losses.spectral_loss(sound_BT, sound_BT, config.bandwidths, config.resolution).item() == 0
    assert losses.multispectral_loss(sound_BT, sound_BT, config.bandwidths, config.resolutions).item() == 0
    assert losses.spectral_convergence(sound_BT, silence_BT, config.resolution).item() == pytest.approx(1.0)
    assert losses.spectral_convergence(silence_BT, sound_BT, config.resolution).item() == 0


def test_log_spectra_count_quiet_bins_as_much_as_loud_ones() -> None:
    resolutions = LossConfig().resolutions
    loud_BT = torch.randn(1, 8192, generator=torch.Generator().manual_seed(0))
    assert losses.log_spectral_loss(loud_BT, loud_BT, resolutions).item() == 0
    halved = [losses.log_spectral_loss(gain * loud_BT, gain / 2 * loud_BT, resolutions).item() for gain in (1.0, 0.1)]
    assert halved == pytest.approx([0.693, 0.693], rel=0.1)  # 20 dB apart, and above the floor
    inaudible = losses.log_spectral_loss(1e-6 * loud_BT, 0.5e-6 * loud_BT, resolutions).item()
    assert inaudible < 0.01  # below the floor


def test_log_spectra_are_part_of_the_loss_by_their_weight() -> None:
    target_BT, output_BT = torch.randn(2, 1, 4096, generator=torch.Generator().manual_seed(1))
    found = [
        losses.vqvae_loss(target_BT, [output_BT], [torch.tensor(0.0)], LossConfig(log_spectral=weight))
        for weight in (0.0, 0.5)
    ]
    difference = found[1][0] - found[0][0]
    torch.testing.assert_close(difference, 0.5 * found[1][1]["log_spectral_loss"], rtol=1e-3, atol=0)  # of large sums
    assert "log_spectral_loss" not in found[0][1]


def test_a_sine_has_its_magnitude_in_its_bin() -> None:
    resolution = Resolution(n_fft=64, hop=16, window=64)
    sine_BT = torch.cos(2 * torch.pi * 8 / 64 * torch.arange(640.0))[None]
    middle_F = losses.spectrogram(sine_BT, resolution)[0, :, 20]
    assert int(middle_F.argmax()) == 8
    assert middle_F[8].item() == pytest.approx(16.0, rel=1e-4)  # half the window's sum, 32


def test_gradients_are_finite_even_in_silence() -> None:
    output_BT = torch.zeros(1, 4096, requires_grad=True)
    config = LossConfig(log_spectral=1.0)
    loss, metrics = losses.vqvae_loss(torch.zeros(1, 4096), [output_BT], [torch.tensor(0.0)], config)
    loss.backward()
    assert output_BT.grad.isfinite().all()
    assert not any(value.requires_grad for value in metrics.values())


def test_commitment_moves_features_and_not_codewords() -> None:
    features_BCT = torch.zeros(1, 2, 3, requires_grad=True)
    codewords_BCT = torch.ones(1, 2, 3, requires_grad=True)
    loss = losses.commitment_loss(features_BCT, codewords_BCT)
    loss.backward()
    assert loss.item() == 1
    assert codewords_BCT.grad is None
    assert features_BCT.grad.abs().sum() > 0


def test_losses_refuse_audio_that_is_too_short() -> None:
    short_BT = torch.zeros(1, 100)
    with pytest.raises(AudioError, match="linf_k = 2048"):
        losses.linf_loss(short_BT, short_BT, Bandwidths(), 2048)
    with pytest.raises(AudioError, match="n_fft of 2048"):
        losses.spectrogram(short_BT, LossConfig().resolution)
    with pytest.raises(ConfigError, match="bandwidth l2 is 0"):
        Bandwidths(l2=0)


# Numbers that are not finite


def test_audio_that_is_not_finite_is_not_encoded(model: VQVAE) -> None:
    audio = torch.zeros(2, 64)
    audio[1, 40] = torch.nan
    with pytest.raises(AudioError, match="audio holds samples that are not finite"):
        model.encode(audio)


@pytest.mark.parametrize("packed", [False, True])
def test_codes_are_not_made_of_features_that_are_not_finite_nor_audio_of_such_codes(model: VQVAE, packed: bool) -> None:
    level = model.levels[1]
    with torch.no_grad():
        [*level.encoder.parameters()][-1].fill_(torch.inf)
        level.output.bias.fill_(torch.nan)
    prepare_vqvae(model, "auto" if packed else "eager")
    assert model.encode(torch.zeros(1, 64), [0])[0].shape == (1, 16)
    with pytest.raises(NumericsError, match="the output of the VQ-VAE's encoder of level 1 is not finite"):
        model.encode(torch.zeros(1, 64))
    with pytest.raises(NumericsError, match="the audio that the VQ-VAE decodes from level 1 is not finite"):
        model.decode(torch.zeros(1, 4, dtype=torch.int64), 1)
