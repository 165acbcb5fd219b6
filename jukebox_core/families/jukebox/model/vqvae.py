"""The VQ-VAE: audio to three levels of codes and back (Jukebox paper, section 3; docs/upstream.md, VQ-VAE).

Level l has its own encoder, codebook and decoder, from and to audio; no level reads another's codes.
Audio is mono, float32, about -1 to 1. Convolutions work channels first.

Shape suffixes: B batch, T time (samples, or tokens of a level), C channels, N rows, V vocabulary (codebook entries).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from jukebox_core.errors import AudioError, ConfigError, NumericsError
from jukebox_core.families.jukebox.model.convnet import Downsampler, StackConfig, Upsampler
from jukebox_core.families.jukebox.model.streaming import Stream
from jukebox_core.runtime.finite import is_finite

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jukebox_core.families.jukebox.config import VQVAEConfig

CHUNK_SECONDS = {"cpu": 0.5, "other": 10.0}  # on a CPU the rows of a chunk stay in its cache
QUANTISED_ROWS = 1024  # feature vectors per distance matrix: 8 MB at 2048 codebook entries


class LevelCodec(nn.Module):
    """Encoder, codebook and decoder of one level. Both lists run from the block nearest to audio to the deepest."""

    codebook: Tensor

    def __init__(self, config: VQVAEConfig, level: int) -> None:
        super().__init__()
        multiplier, emb = config.multipliers[level], config.embedding_width
        width = config.width * multiplier

        def stack(*, reverse: bool) -> StackConfig:
            return StackConfig(
                width=width,
                depth=config.depth * multiplier,
                hidden_width=int(config.hidden_factor * width),
                growth=config.dilation_growth,
                cycle=config.dilation_cycle,
                reverse=reverse,
            )

        rates = list(zip(config.downs, config.strides, strict=True))[: level + 1]
        self.encoder = nn.ModuleList(
            Downsampler(emb if depth else 1, emb, times=times, stride=stride, stack=stack(reverse=False))
            for depth, (times, stride) in enumerate(rates)
        )
        self.decoder = nn.ModuleList(
            Upsampler(emb, emb, times=times, stride=stride, stack=stack(reverse=config.reverse_decoder_dilation))
            for times, stride in rates
        )
        self.output = nn.Conv1d(emb, 1, 3, padding=1)
        self.register_buffer("codebook", torch.zeros(config.bins, emb))  # learnt by moving averages, not by gradient

    def encode(self, audio_BT: Tensor) -> Tensor:
        """Returns features before quantisation, [B, C, T // hop]."""
        x_BCT = audio_BT[:, None]
        for block in self.encoder:
            x_BCT = block(x_BCT)
        return x_BCT

    def decode(self, features_BCT: Tensor) -> Tensor:
        """Returns audio, [B, T * hop], not clamped."""
        for block in reversed(self.decoder):
            features_BCT = block(features_BCT)
        return cast("Tensor", self.output(features_BCT))[:, 0]

    def encoder_reach(self) -> int:
        """Returns how many tokens on either side of a token share audio with it, at most."""
        reach, hop = 0, 1
        for block in reversed(self.encoder):
            sizes = cast("Downsampler", block)
            reach += 1
            for _ in range(sizes.times):
                reach = (reach + sizes.radius + 2) * sizes.stride
                hop *= sizes.stride
        return -(-reach // hop) + 1

    def decoder_reach(self) -> int:
        """Returns how many tokens beyond its own an audio sample depends on, to either side."""
        reach = 1  # the output convolution looks one sample to either side
        for block in self.decoder:
            reach = cast("Upsampler", block).reach(reach)
        return reach


class VQVAE(nn.Module):
    """All levels of the VQ-VAE. Holds weights only; levels count from 0, the bottom.

    Inputs of `encode` and `decode` may be on any device: they are copied to the model's chunk by chunk, so that memory
    does not grow with length. Results are on the model's device.
    """

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.levels = nn.ModuleList(LevelCodec(config, level) for level in range(config.levels))

    @property
    def device(self) -> torch.device:
        """Device of its weights."""
        return self._codec(0).codebook.device

    @torch.no_grad()
    def encode(
        self, audio_BT: Tensor, levels: Sequence[int] | None = None, *, chunk: int | None = None
    ) -> list[Tensor]:
        """Returns codes, int64 [B, T // hop of the level], for each of `levels`, in their order.

        Args:
            audio_BT: mono audio; samples beyond the last whole token are context of it, without a token of their own.
            levels: levels to encode; all of them, bottom first, by default.
            chunk: audio samples per forward pass; by default as suits the device. It changes memory and speed, not
                codes.

        Raises:
            AudioError: the audio has the wrong shape, is shorter than one token of a requested level, or is not finite.
            ConfigError: no such level, or `chunk` is not positive.
            NumericsError: the encoder's output is not finite.
        """
        requested = range(self.config.levels) if levels is None else levels
        if not is_finite(audio_BT):
            raise AudioError("audio holds samples that are not finite (NaN or infinity); leave it out, or repair it")
        return [self._encode_level(audio_BT, level, chunk) for level in requested]

    @torch.no_grad()
    def decode(self, codes_BT: Tensor, level: int, *, chunk: int | None = None) -> Tensor:
        """Returns audio, float32 [B, T * hop], from the codes of one level alone. It may exceed 1: nothing is clamped.

        Args:
            codes_BT: integers from 0 to the codebook's size.
            level: the level whose codes they are.
            chunk: tokens per forward pass; by default as suits the device. It changes memory and speed, not the audio.

        Raises:
            ConfigError: no such level, codes of the wrong shape or out of range, or `chunk` is not positive.
            NumericsError: the audio is not finite.
        """
        codec, hop = self._codec(level), self.config.hops[level]
        self._check_codes(codes_BT)
        audio_BT = codec.codebook.new_empty(codes_BT.shape[0], codes_BT.shape[1] * hop)
        for codes_T, audio_T in zip(codes_BT, audio_BT, strict=True):
            stream, done = Stream([*reversed(codec.decoder), codec.output]), 0
            for part_T, last in self._chunks(codes_T, chunk, hop, codec.codebook.device):
                part_TC = stream.feed(codec.codebook[part_T], last=last)
                audio_T[done : done + len(part_TC)] = part_TC[:, 0]
                done += len(part_TC)
        _check_finite(audio_BT, f"the audio that the VQ-VAE decodes from level {level}")
        return audio_BT

    def features(self, audio_BT: Tensor, level: int) -> Tensor:
        """Returns the encoder's output before quantisation, [B, C, T // hop].

        With gradients the audio is one forward pass, without them it is computed chunk by chunk, as by `encode`.

        Raises:
            AudioError: the audio has the wrong shape, or is shorter than one token.
            ConfigError: no such level.
        """
        codec = self._codec(level)
        self._tokens(audio_BT, level)
        inputs = (audio_BT, *codec.encoder.parameters())
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
            return codec.encode(audio_BT.to(codec.codebook.device))
        rows = [torch.cat([*self._features(audio_T, codec, None)]) for audio_T in audio_BT]
        return torch.stack(rows).transpose(1, 2)

    @torch.no_grad()
    def quantise(self, features_BCT: Tensor, level: int) -> Tensor:
        """Returns the nearest codebook entry of every feature vector, int64 [B, T]; the lowest index wins a tie.

        Raises:
            ConfigError: no such level.
        """
        codes_N = self._nearest(features_BCT.transpose(1, 2).flatten(0, 1), self._codec(level))
        return codes_N.view(features_BCT.shape[0], -1)

    def dequantise(self, codes_BT: Tensor, level: int) -> Tensor:
        """Returns the codebook entries at `codes_BT`, [B, C, T].

        Raises:
            ConfigError: no such level.
        """
        codebook_VC = self._codec(level).codebook
        return codebook_VC[codes_BT.to(codebook_VC.device)].transpose(1, 2)

    def _encode_level(self, audio_BT: Tensor, level: int, chunk: int | None) -> Tensor:
        codec = self._codec(level)
        total, device = self._tokens(audio_BT, level), codec.codebook.device
        codes_BT = torch.empty(audio_BT.shape[0], total, dtype=torch.int64, device=device)
        for audio_T, codes_T in zip(audio_BT, codes_BT, strict=True):
            done = 0
            for features_TC in self._features(audio_T, codec, chunk):
                _check_finite(features_TC, f"the output of the VQ-VAE's encoder of level {level}")
                codes_T[done : done + len(features_TC)] = self._nearest(features_TC, codec)
                done += len(features_TC)
        return codes_BT

    def _features(self, audio_T: Tensor, codec: LevelCodec, chunk: int | None) -> Iterator[Tensor]:
        """Yields the encoder's output before quantisation, [T // hop, C], chunk by chunk."""
        stream = Stream(codec.encoder)
        for part_T, last in self._chunks(audio_T, chunk, 1, codec.codebook.device):
            yield stream.feed(part_T[:, None], last=last)

    def _chunks(
        self, row_T: Tensor, chunk: int | None, hop: int, device: torch.device
    ) -> Iterator[tuple[Tensor, bool]]:
        """Yields chunks of a row on `device`, and whether each is the last; an entry is `hop` audio samples."""
        if chunk is None:
            seconds = CHUNK_SECONDS["cpu" if device.type == "cpu" else "other"]
            chunk = max(1, int(self.config.sample_rate * seconds) // hop)
        if chunk < 1:
            raise ConfigError(f"chunk is {chunk}; it must be positive, or None for the device's default")
        for start in range(0, len(row_T), chunk):
            yield row_T[start : start + chunk].to(device), start + chunk >= len(row_T)

    def _nearest(self, features_NC: Tensor, codec: LevelCodec) -> Tensor:
        parts = torch.split(features_NC.float(), QUANTISED_ROWS)
        return torch.cat([nearest(part_NC, codec.codebook.float()) for part_NC in parts])

    def _codec(self, level: int) -> LevelCodec:
        if level not in range(self.config.levels):
            raise ConfigError(f"level is {level}; choose one of 0 (bottom) to {self.config.levels - 1} (top)")
        return cast("LevelCodec", self.levels[level])

    def _tokens(self, audio_BT: Tensor, level: int) -> int:
        """Returns the number of tokens of the audio at `level`; AudioError if it has none."""
        if audio_BT.dim() != 2 or not audio_BT.is_floating_point():
            found = f"{audio_BT.dtype} of shape {tuple(audio_BT.shape)}"
            raise AudioError(f"audio is {found}; give floating-point mono audio as [batch, samples]")
        hop = self.config.hops[level]
        if audio_BT.shape[1] < hop:
            raise AudioError(f"audio has {audio_BT.shape[1]} samples; level {level} needs at least {hop}, one token")
        return audio_BT.shape[1] // hop

    def _check_codes(self, codes_BT: Tensor) -> None:
        if codes_BT.dim() != 2 or codes_BT.is_floating_point():
            found = f"{codes_BT.dtype} of shape {tuple(codes_BT.shape)}"
            raise ConfigError(f"codes are {found}; give integers as [batch, tokens]")
        if codes_BT.numel():
            low, high = (int(bound) for bound in codes_BT.aminmax())
            if low < 0 or high >= self.config.bins:
                raise ConfigError(
                    f"codes reach from {low} to {high}; this codebook has 0 to {self.config.bins - 1}: "
                    "decode with the VQ-VAE that the codes were made for"
                )


def nearest(features_NC: Tensor, codebook_VC: Tensor) -> Tensor:
    """Returns the nearest codebook entry of every feature vector, int64 [N]; the lowest index wins a tie."""
    norms_V = codebook_VC.square().sum(-1)
    # |x|^2 - 2 x.k + |k|^2, in this order: rounding decides near ties (docs/upstream.md, VQ-VAE).
    distance_NV = (features_NC @ codebook_VC.T).mul_(-2).add_(features_NC.square().sum(-1, keepdim=True))
    return distance_NV.add_(norms_V).argmin(-1)


def _check_finite(values: Tensor, label: str) -> None:
    if not is_finite(values):
        raise NumericsError(f"{label} is not finite (NaN or infinity); its weights may be damaged: fetch them again")
