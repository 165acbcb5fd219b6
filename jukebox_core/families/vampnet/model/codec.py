"""The codec: waveform to a grid of codes, and back. It is called LAC; its decoder differs from the published DAC's.

Legend: B batch, N audio samples, K codebooks, T tokens, W width of the encoder's output, D width of a codebook,
L all widths of codebooks together, V codes of a codebook.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from jukebox_core.families.vampnet.model.convolution import Residual, Snake, WNConv1d, WNConvTranspose1d

if TYPE_CHECKING:
    from jukebox_core.families.vampnet.config import CodecConfig

_ENCODER_DILATIONS = (1, 3, 9)
_DECODER_DILATIONS = (1, 3, 5)
_DECODER_KERNELS = (3, 7, 11)


class Encoded(NamedTuple):
    """What the encoder made of a batch of waveforms."""

    codes_BKT: Tensor  # int64
    latents_BLT: Tensor  # projected residuals before quantisation
    quantised_BWT: Tensor  # the sum of all codebooks' vectors: what the decoder reads
    commitment_loss: Tensor  # scalar, with gradients to the encoder; summed over codebooks
    codebook_loss: Tensor  # scalar of the same value, with gradients to the codebooks


class EncoderStage(nn.Module):
    """Three dilated residual units, then a strided convolution that doubles the channels."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.units = nn.ModuleList(Residual(channels, 7, dilation, 1) for dilation in _ENCODER_DILATIONS)
        self.snake = Snake(channels)
        self.conv = WNConv1d(channels, 2 * channels, 2 * stride, stride=stride, padding=stride // 2)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Returns [B, 2 C, T']."""
        for unit in self.units:
            x_BCT = unit(x_BCT)
        return self.conv(self.snake(x_BCT))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """Waveform to latents."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        width = config.encoder_dim
        self.first = WNConv1d(1, width, 7, padding=3)
        self.stages = nn.ModuleList(EncoderStage(width * 2**i, rate) for i, rate in enumerate(config.encoder_rates))
        self.snake = Snake(config.latent_width)
        self.last = WNConv1d(config.latent_width, config.latent_width, 3, padding=1)

    def forward(self, audio_B1N: Tensor) -> Tensor:
        """Returns [B, W, T]."""
        x_BCT = self.first(audio_B1N)
        for stage in self.stages:
            x_BCT = stage(x_BCT)
        return self.last(self.snake(x_BCT))  # type: ignore[no-any-return]


class Branch(nn.Module):
    """Three residual units of one kernel, dilated more and more."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.units = nn.ModuleList(Residual(channels, kernel, dilation, kernel) for dilation in _DECODER_DILATIONS)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Returns [B, C, T]."""
        for unit in self.units:
            x_BCT = unit(x_BCT)
        return x_BCT


class DecoderStage(nn.Module):
    """A transposed convolution, then the mean of branches with different kernels."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.snake = Snake(inputs)
        self.conv = WNConvTranspose1d(inputs, outputs, stride)
        self.branches = nn.ModuleList(Branch(outputs, kernel) for kernel in _DECODER_KERNELS)

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Returns [B, C', T']."""
        x_BCT = self.conv(self.snake(x_BCT))
        return torch.stack([branch(x_BCT) for branch in self.branches]).mean(0)


class Decoder(nn.Module):
    """Quantised latents to waveform."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        widths = [config.decoder_dim >> i for i in range(len(config.decoder_rates) + 1)]
        self.first = WNConv1d(config.latent_width, widths[0], 7, padding=3)
        self.stages = nn.ModuleList(
            DecoderStage(widths[i], widths[i + 1], rate) for i, rate in enumerate(config.decoder_rates)
        )
        self.snake = Snake(widths[-1])
        self.last = WNConv1d(widths[-1], 1, 7, padding=3)

    def forward(self, z_BWT: Tensor) -> Tensor:
        """Returns [B, 1, N] in (-1, 1)."""
        x_BCT = self.first(z_BWT)
        for stage in self.stages:
            x_BCT = stage(x_BCT)
        return torch.tanh(self.last(self.snake(x_BCT)))


class Quantizer(nn.Module):
    """One codebook: the nearest direction is looked up, and projected back."""

    def __init__(self, width: int, size: int, dim: int) -> None:
        super().__init__()
        self.in_proj = WNConv1d(width, dim, 1)
        self.out_proj = WNConv1d(dim, width, 1)
        self.codebook = nn.Embedding(size, dim)

    def nearest(self, z_BDT: Tensor) -> Tensor:
        """Returns the codes [B, T] whose vectors have the smallest angle to `z`; of equal ones the first."""
        flat_ND = functional.normalize(z_BDT.transpose(1, 2).reshape(-1, z_BDT.shape[1]))
        rows_VD = functional.normalize(self.codebook.weight)
        distance_NV = (
            flat_ND.square().sum(1, keepdim=True) - 2 * flat_ND @ rows_VD.T + rows_VD.square().sum(1, keepdim=True).T
        )
        return distance_NV.argmin(1).view(z_BDT.shape[0], -1)

    def look_up(self, codes_BT: Tensor) -> Tensor:
        """Returns the codebook's vectors [B, D, T], as they are."""
        return functional.embedding(codes_BT, self.codebook.weight).transpose(1, 2)


class Codec(nn.Module):
    """Encoder, residual quantisers and decoder."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.quantizers = nn.ModuleList(
            Quantizer(config.latent_width, config.codebook_size, dim) for dim in config.book_dims
        )
        self.decoder = Decoder(config)

    @property
    def books(self) -> list[Quantizer]:
        """The quantisers, in order."""
        return cast("list[Quantizer]", list(self.quantizers))

    def codebooks(self, count: int) -> Tensor:
        """Returns the vectors of the first `count` codebooks, which have one width, [K, V, D]."""
        return torch.stack([each.codebook.weight for each in self.books[:count]])

    @property
    def device(self) -> torch.device:
        """Device of its weights."""
        return self.books[0].codebook.weight.device

    def codes(self, audio_B1N: Tensor, first: int = 0, stop: int | None = None) -> Tensor:
        """Returns the codes [B, K, T] of the tokens from `first` to `stop` of audio of whole tokens."""
        return self.quantise(self.encoder(audio_B1N)[..., first:stop]).codes_BKT

    def encode(self, audio_B1N: Tensor, n_quantizers: int | None = None) -> Encoded:
        """Returns codes, latents and losses of audio, which is padded with zeros to whole tokens.

        Args:
            audio_B1N: mono audio at the codec's rate.
            n_quantizers: codebooks that are summed and take part in the losses; codes and latents are of all.
        """
        padding = self.config.padded(audio_B1N.shape[-1]) - audio_B1N.shape[-1]
        return self.quantise(self.encoder(functional.pad(audio_B1N, (0, padding))), n_quantizers)

    def quantise(self, residual_BWT: Tensor, n_quantizers: int | None = None) -> Encoded:
        """Returns codes, latents and losses of the encoder's output."""
        count = len(self.quantizers) if n_quantizers is None else n_quantizers
        sum_BWT = torch.zeros_like(residual_BWT)
        commitment = codebook = residual_BWT.new_zeros(())
        codes, latents = [], []
        for book, each in enumerate(self.books):
            z_BDT = each.in_proj(residual_BWT)
            codes_BT = each.nearest(z_BDT)
            row_BDT = each.look_up(codes_BT)
            # Straight through: the value is the row's but for rounding, which decides later codes; the gradient is z's.
            result_BWT = each.out_proj(z_BDT + (row_BDT - z_BDT).detach())
            residual_BWT = residual_BWT - result_BWT
            if book < count:
                sum_BWT = sum_BWT + result_BWT
                commitment = commitment + _mean_square(z_BDT, row_BDT.detach())
                codebook = codebook + _mean_square(z_BDT.detach(), row_BDT)
            codes.append(codes_BT)
            latents.append(z_BDT)
        return Encoded(torch.stack(codes, 1), torch.cat(latents, 1), sum_BWT, commitment, codebook)

    def quantised(self, codes_BKT: Tensor) -> Tensor:
        """Returns what the decoder reads, [B, W, T], of the codes of the first K codebooks."""
        books = zip(self.books, codes_BKT.unbind(1), strict=False)
        parts = [each.out_proj(each.look_up(codes_BT)) for each, codes_BT in books]
        return torch.stack(parts).sum(0)

    def canonical(self, codes_BKT: Tensor) -> Tensor:
        """Returns the codes that upstream decodes for these: it looks vectors up, and searches the nearest again.

        They differ only where two vectors of a codebook have one direction.
        """
        books = zip(self.books, codes_BKT.unbind(1), strict=False)
        return torch.stack([each.nearest(each.look_up(codes_BT)) for each, codes_BT in books], 1)

    def decode(self, codes_BKT: Tensor) -> Tensor:
        """Returns audio [B, 1, N] of the codes of the first K codebooks."""
        return self.decoder(self.quantised(self.canonical(codes_BKT)))  # type: ignore[no-any-return]


def _mean_square(a_BDT: Tensor, b_BDT: Tensor) -> Tensor:
    return (a_BDT - b_BDT).square().mean()
