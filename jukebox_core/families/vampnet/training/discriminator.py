"""Discriminators of spectrograms: networks that separate a codec's audio from recordings.

Their loss is that of least squares (Mao et al. 2017).

Legend: B batch, N audio samples, C channels, S frames, F bins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

_WIDTH = 16
_SLOPE = 0.1


class Discriminator(nn.Module):
    """Convolutions over the complex spectrogram of one window, coarser and coarser in frequency."""

    def __init__(self, window: int) -> None:
        super().__init__()
        self.window = window
        self.layers = nn.ModuleList(
            [
                nn.Conv2d(2, _WIDTH, (3, 9), padding=(1, 4)),
                nn.Conv2d(_WIDTH, _WIDTH, (3, 9), stride=(1, 2), padding=(1, 4)),
                nn.Conv2d(_WIDTH, _WIDTH, (3, 9), stride=(1, 2), padding=(1, 4)),
                nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1),
            ]
        )
        self.last = nn.Conv2d(_WIDTH, 1, 3, padding=1)

    def forward(self, audio_BN: Tensor) -> list[Tensor]:
        """Returns the activations of every layer, [B, C, S, F] each; the last are the verdicts: 1 for a recording."""
        shape_N = torch.hann_window(self.window, device=audio_BN.device)
        frames_BFS = torch.stft(
            audio_BN, self.window, self.window // 4, self.window, shape_N, return_complex=True, normalized=True
        )
        x_BCSF = torch.view_as_real(frames_BFS).permute(0, 3, 2, 1)
        found = []
        for layer in self.layers:
            x_BCSF = functional.leaky_relu(layer(x_BCSF), _SLOPE)
            found.append(x_BCSF)
        return [*found, self.last(x_BCSF)]


class Discriminators(nn.Module):
    """A discriminator for each window."""

    def __init__(self, windows: Sequence[int], seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.each = nn.ModuleList(map(Discriminator, windows))

    def forward(self, audio_BN: Tensor) -> list[list[Tensor]]:
        """Returns the activations of every discriminator."""
        return [each(audio_BN) for each in self.each]

    def loss(self, target_BN: Tensor, made_BN: Tensor) -> Tensor:
        """Returns how far the verdicts are from 1 for recordings and from 0 for the codec's audio, a scalar."""
        pairs = zip(self(target_BN), self(made_BN), strict=True)
        return torch.stack([(1 - real[-1]).square().mean() + made[-1].square().mean() for real, made in pairs]).mean()


class _Held:
    """Discriminators whose parameters receive no gradient."""

    def __init__(self, judges: Discriminators) -> None:
        self._judges = judges
        self._parameters = {name: each.detach() for name, each in judges.named_parameters()}

    def fool(self, target_BN: Tensor, made_BN: Tensor) -> tuple[Tensor, Tensor]:
        """Returns how far the verdicts on the codec's audio are from 1, and the distance of activations, scalars."""
        real, made = (
            torch.func.functional_call(self._judges, self._parameters, (each,)) for each in (target_BN, made_BN)
        )
        fooled = torch.stack([(1 - each[-1]).square().mean() for each in made]).mean()
        distances = [
            (mine - theirs.detach()).abs().mean() / theirs.detach().abs().mean().clamp(min=1e-6)
            for one, other in zip(made, real, strict=True)
            for mine, theirs in zip(one[:-1], other[:-1], strict=True)
        ]
        return fooled, torch.stack(distances).mean()


def detached(judges: Discriminators) -> _Held:
    """Returns the discriminators, to be deceived: gradients reach the audio and not their parameters."""
    return _Held(judges)
