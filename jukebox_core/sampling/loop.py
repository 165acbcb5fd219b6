"""The decode loop of any token model: read what is known, then one step and one draw a token.

Shape suffixes: B batch, T tokens, F forced tokens, V vocabulary, W width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch

from jukebox_core.sampling.draw import draw_tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from jukebox_core.sampling.config import DrawConfig
    from jukebox_core.sampling.noise import Noise


class StepModel(Protocol):
    """A token model with the state of one window; tokens are int64 numbers of its vocabulary."""

    def read(self, tokens_BT: Tensor) -> Tensor:
        """Reads known tokens, any number of them; returns the features [B, T, W] that predict each."""
        ...

    def predict(self) -> Tensor:
        """Reads the next position; returns the features [B, 1, W] that predict its token."""
        ...

    def push(self, tokens_B: Tensor) -> None:
        """Tells which tokens stand at the position that `predict` read."""
        ...

    def logits(self, features_BW: Tensor) -> Tensor:
        """Returns float32 logits [B, V]."""
        ...


def prefill(model: StepModel, tokens_BT: Tensor, chunk: int | None = None) -> None:
    """Reads known tokens in pieces of `chunk` tokens, or in one; the pieces' size changes rounding at most."""
    if tokens_BT.shape[1]:
        for piece_BT in torch.split(tokens_BT, chunk or tokens_BT.shape[1], dim=1):
            model.read(piece_BT)


def decode(
    model: StepModel,
    count: int,
    sampling: DrawConfig,
    noise: Noise,
    *,
    position: int,
    forced_BF: Tensor | None = None,
    flush: int = 64,
) -> Iterator[Tensor]:
    """Yields the tokens that follow what the model has read, int64 [B, at most `flush`], in order.

    Forced tokens were drawn by an interrupted attempt. They take the steps that they took then, without a draw, so
    that what follows is bit for bit what would have followed; they are not yielded again.

    Args:
        model: Has read all known tokens.
        count: How many tokens there are to be, forced ones included.
        sampling: How they are drawn.
        noise: Asked once for each token that is drawn.
        position: Absolute position, in its level, of the first of the `count` tokens.
        forced_BF: The first F of the `count` tokens.
        flush: Tokens in a block, but for the last.
    """
    forced = 0 if forced_BF is None else forced_BF.shape[1]
    block: list[Tensor] = []
    for step in range(count):
        features_B1W = model.predict()
        if forced_BF is not None and step < forced:
            model.push(forced_BF[:, step])
            continue
        logits_BV = model.logits(features_B1W[:, 0])
        noise_BV = noise.draw(position + step, logits_BV.shape[1]).to(logits_BV.device)
        tokens_B = draw_tokens(logits_BV, noise_BV, sampling)
        model.push(tokens_B)
        block.append(tokens_B)
        if len(block) == flush or step == count - 1:
            yield torch.stack(block, dim=1)
            block = []
