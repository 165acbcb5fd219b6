"""The autoregressive decode loop of any token model: prefill, then one step and one draw per token.

Shape suffixes: B batch, T tokens, F forced tokens, V vocabulary, W width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch

from jukebox_core.errors import NumericsError
from jukebox_core.runtime.finite import is_finite
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
    label: str = "the model",
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
        label: Names the model in messages.

    Raises:
        NumericsError: Logits are not finite. They are looked at once a block, so that no step waits for the device; no
            token of that block is yielded.
    """
    forced = 0 if forced_BF is None else forced_BF.shape[1]
    block: list[Tensor] = []
    drawn_from: list[Tensor] = []  # the logits of the block
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
        drawn_from.append(logits_BV)
        if len(block) == flush or step == count - 1:
            _check_logits(drawn_from, label, position + step + 1 - len(block))
            yield torch.stack(block, dim=1)
            block, drawn_from = [], []


def _check_logits(logits: list[Tensor], label: str, position: int) -> None:
    """Checks the logits [B, V] of the tokens from `position` on; NumericsError if one is not finite."""
    if is_finite(torch.stack(logits)):
        return
    finite_TB = torch.stack([torch.isfinite(each_BV).all(-1) for each_BV in logits]).cpu()
    first = position + int((~finite_TB.all(1)).int().argmax())
    songs = ", ".join(str(song) for song in (~finite_TB.all(0)).nonzero()[:, 0].tolist())
    raise NumericsError(
        f"the logits of {label} are not finite (NaN or infinity) from token {first} on, in songs {songs} of the batch; "
        "tokens before it are stored. Choose hardware.dtype=float32, or weights whose numbers are smaller"
    )
