"""The autoregressive decode loop of any token model: prefill, then one step and one draw per token.

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
    """A token model with the state of one window; tokens are int64 indices of its vocabulary."""

    def read(self, tokens_BT: Tensor) -> Tensor:
        """Prefill: appends known tokens; returns the features [B, T, W] that predict each of them."""
        ...

    def predict(self) -> Tensor:
        """Returns the features [B, 1, W] that predict the next token."""
        ...

    def feed(self, tokens_B: Tensor) -> None:
        """Sets the tokens at the position that `predict` computed; they are the input of the next one."""
        ...

    def logits(self, features_BW: Tensor) -> Tensor:
        """Returns float32 logits [B, V]."""
        ...


def prefill(model: StepModel, tokens_BT: Tensor, chunk: int | None = None) -> None:
    """Feeds known tokens in chunks of `chunk` tokens, or all at once; the chunk size changes at most rounding.

    Args:
        model: Its state is advanced by T positions.
        tokens_BT: Known tokens; T may be 0.
        chunk: Tokens per forward pass; None is all.
    """
    if tokens_BT.shape[1]:
        for chunk_BT in torch.split(tokens_BT, chunk or tokens_BT.shape[1], dim=1):
            model.read(chunk_BT)


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
    """Yields sampled tokens in order, in blocks of int64 [B, at most `flush`].

    Forced tokens were drawn by an interrupted attempt. They are fed through the same steps without a draw and are not
    yielded again, so that the tokens after them are the same, bit for bit, as without the interruption.

    Args:
        model: After the prefill of all known tokens.
        count: Number of tokens, forced ones included.
        sampling: Temperature and filters.
        noise: Called once for each drawn token.
        position: Absolute position, in its level, of the first of the `count` tokens.
        forced_BF: The first F of the `count` tokens.
        flush: Tokens per block; the last block may be shorter.
    """
    forced = 0 if forced_BF is None else forced_BF.shape[1]
    block: list[Tensor] = []
    for step in range(count):
        features_B1W = model.predict()
        if forced_BF is not None and step < forced:
            model.feed(forced_BF[:, step])
            continue
        logits_BV = model.logits(features_B1W[:, 0])
        noise_BV = noise.draw(position + step, logits_BV.shape[1]).to(logits_BV.device)
        tokens_B = draw_tokens(logits_BV, noise_BV, sampling)
        model.feed(tokens_B)
        block.append(tokens_B)
        if len(block) == flush or step == count - 1:
            yield torch.stack(block, dim=1)
            block = []
