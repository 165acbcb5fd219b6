"""The VQ-VAE: sound to three levels of codes and back (Jukebox paper, section 3; golden README 2.1).

Level l has an encoder, a codebook and a decoder of its own, from and to sound; no level reads another's codes.
Sound is mono, float32, about -1 to 1. Convolutions work channels first.

Shape suffixes: B batch, T time (samples, or tokens of a level), C channels, N rows, V vocabulary (codebook entries).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from jukebox_core.errors import AudioError, ConfigError
from jukebox_core.families.jukebox.model.convnet import Downsampler, StackConfig, Upsampler
from jukebox_core.families.jukebox.model.streaming import Stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jukebox_core.families.jukebox.config import VQVAEConfig

PIECE_SECONDS = {"cpu": 0.5, "other": 10.0}  # on a CPU the rows of a piece stay in its cache
QUANTISED_ROWS = 1024  # feature vectors compared with the codebook at once: 8 MB of distances at 2048 entries


class LevelCodec(nn.Module):
    """Encoder, codebook and decoder of one level. Both lists run from the block nearest to sound to the deepest."""

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
        self.register_buffer("codebook", torch.zeros(config.bins, emb))  # learnt by averaging, not by gradient

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

    def decoder_reach(self) -> int:
        """Returns how many tokens beyond its own an audio sample depends on, to either side."""
        reach = 1  # the output convolution looks one sample to either side
        for block in self.decoder:
            reach = cast("Upsampler", block).reach(reach)
        return reach


class VQVAE(nn.Module):
    """All levels of the VQ-VAE. Holds weights only; levels count from 0, the bottom.

    Inputs of `encode` and `decode` may lie on any device: they travel to the model's piece by piece, so that memory
    does not grow with length. Results lie on the model's device.
    """

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.levels = nn.ModuleList(LevelCodec(config, level) for level in range(config.levels))

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._codec(0).codebook.device

    @torch.no_grad()
    def encode(
        self, audio_BT: Tensor, levels: Sequence[int] | None = None, *, piece: int | None = None
    ) -> list[Tensor]:
        """Returns codes, int64 [B, T // hop of the level], for each of `levels` in the order asked.

        Args:
            audio_BT: mono audio; what lies beyond the last whole token is heard but gives no token of its own.
            levels: levels to encode; all of them, bottom first, by default.
            piece: audio samples computed at once; by default what suits the device. It changes memory and speed, not
                codes.

        Raises:
            AudioError: the audio has the wrong shape, or is shorter than one token of a level asked for.
            ConfigError: no such level, or `piece` is not positive.
        """
        asked = range(self.config.levels) if levels is None else levels
        return [self._encode_level(audio_BT, level, piece) for level in asked]

    @torch.no_grad()
    def decode(self, codes_BT: Tensor, level: int, *, piece: int | None = None) -> Tensor:
        """Returns audio, float32 [B, T * hop], from the codes of one level alone. It may exceed 1: nothing is clamped.

        Args:
            codes_BT: integers from 0 to the codebook's size.
            level: the level whose codes they are.
            piece: tokens computed at once; by default what suits the device. It changes memory and speed, not what is
                heard.

        Raises:
            ConfigError: no such level, codes of the wrong shape or out of range, or `piece` is not positive.
        """
        codec, hop = self._codec(level), self.config.hops[level]
        self._check_codes(codes_BT)
        audio_BT = codec.codebook.new_empty(codes_BT.shape[0], codes_BT.shape[1] * hop)
        for codes_T, audio_T in zip(codes_BT, audio_BT, strict=True):
            stream, there = Stream([*reversed(codec.decoder), codec.output]), 0
            for part_T, last in self._pieces(codes_T, piece, hop, codec.codebook.device):
                part_TC = stream.feed(codec.codebook[part_T], last=last)
                audio_T[there : there + len(part_TC)] = part_TC[:, 0]
                there += len(part_TC)
        return audio_BT

    def features(self, audio_BT: Tensor, level: int) -> Tensor:
        """Returns the encoder's output before quantisation, [B, C, T // hop].

        Where gradients are wanted, audio goes through in one piece, otherwise piece by piece, as `encode` takes it.

        Raises:
            AudioError: the audio has the wrong shape, or is shorter than one token.
            ConfigError: no such level.
        """
        codec = self._codec(level)
        self._tokens(audio_BT, level)
        wanted = (audio_BT, *codec.encoder.parameters())
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in wanted):
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
        """Returns the codebook entries that `codes_BT` names, [B, C, T].

        Raises:
            ConfigError: no such level.
        """
        codebook_VC = self._codec(level).codebook
        return codebook_VC[codes_BT.to(codebook_VC.device)].transpose(1, 2)

    def _encode_level(self, audio_BT: Tensor, level: int, piece: int | None) -> Tensor:
        codec = self._codec(level)
        total, device = self._tokens(audio_BT, level), codec.codebook.device
        codes_BT = torch.empty(audio_BT.shape[0], total, dtype=torch.int64, device=device)
        for audio_T, codes_T in zip(audio_BT, codes_BT, strict=True):
            there = 0
            for features_TC in self._features(audio_T, codec, piece):
                codes_T[there : there + len(features_TC)] = self._nearest(features_TC, codec)
                there += len(features_TC)
        return codes_BT

    def _features(self, audio_T: Tensor, codec: LevelCodec, piece: int | None) -> Iterator[Tensor]:
        """Yields the encoder's output before quantisation, [T // hop, C], piece by piece."""
        stream = Stream(codec.encoder)
        for part_T, last in self._pieces(audio_T, piece, 1, codec.codebook.device):
            yield stream.feed(part_T[:, None], last=last)

    def _pieces(
        self, row_T: Tensor, piece: int | None, hop: int, device: torch.device
    ) -> Iterator[tuple[Tensor, bool]]:
        """Yields a row in pieces, moved to `device`, and whether each is the last; `hop` is its samples an entry."""
        if piece is None:
            seconds = PIECE_SECONDS["cpu" if device.type == "cpu" else "other"]
            piece = max(1, int(self.config.sample_rate * seconds) // hop)
        if piece < 1:
            raise ConfigError(f"piece is {piece}; it must be positive, or None for what suits the device")
        for start in range(0, len(row_T), piece):
            yield row_T[start : start + piece].to(device), start + piece >= len(row_T)

    def _nearest(self, features_NC: Tensor, codec: LevelCodec) -> Tensor:
        codebook_VC = codec.codebook.float()
        norms_V = codebook_VC.square().sum(-1)
        codes_N = [
            # |x|^2 - 2 x.k + |k|^2, in this order: rounding decides near ties (golden README 2.1).
            (part_NC @ codebook_VC.T).mul_(-2).add_(part_NC.square().sum(-1, keepdim=True)).add_(norms_V).argmin(-1)
            for part_NC in torch.split(features_NC.float(), QUANTISED_ROWS)
        ]
        return torch.cat(codes_N)

    def _codec(self, level: int) -> LevelCodec:
        if level not in range(self.config.levels):
            raise ConfigError(f"level is {level}; choose one of 0 (bottom) to {self.config.levels - 1} (top)")
        return cast("LevelCodec", self.levels[level])

    def _tokens(self, audio_BT: Tensor, level: int) -> int:
        """Returns how many tokens the audio gives at `level`, or says why it gives none."""
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
