"""Decoding one window of one level with a Jukebox prior (docs/upstream.md, Sampling).

Shape suffixes: B batch, T known codes, F forced codes, V vocabulary, W width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from jukebox_core.errors import ConfigError, NumericsError
from jukebox_core.runtime.finite import is_finite
from jukebox_core.sampling.loop import decode, prefill

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from jukebox_core.families.jukebox.model.prior import Condition, Prior
    from jukebox_core.families.jukebox.sampling.config import LevelSampling
    from jukebox_core.sampling.noise import Noise


_LOOKED_AT_TOGETHER = 128  # steps: a look at every eight would cost 3 % of the time of a small model


class WindowDecoder:
    """A prior with the state of one window: the `StepModel` of `sampling.loop`.

    Logits are looked at for numbers that are not finite, many steps together so that no step waits for the device:
    codes are not to be stored before `check_logits`.
    """

    def __init__(self, prior: Prior, condition: Condition) -> None:
        self.prior = prior
        self.condition = condition
        self.state = prior.new_state(condition)
        self._unchecked: list[Tensor] = []  # the logits [B, V] of the last steps

    def read(self, tokens_BT: Tensor) -> Tensor:
        """Appends known tokens to the cache; returns the features [B, T, W] that predict each."""
        return self.prior.extend(self.state, tokens_BT)

    def predict(self) -> Tensor:
        """Computes the next position; returns the features [B, 1, W] that predict its token."""
        return self.prior.predict(self.state)

    def feed(self, tokens_B: Tensor) -> None:
        """Sets the tokens at the position that `predict` computed; they are the input of the next one."""
        self.prior.feed(self.state, tokens_B)

    def logits(self, features_BW: Tensor) -> Tensor:
        """Returns float32 logits [B, V] of the position that `predict` computed.

        Raises:
            NumericsError: these, or some of an earlier step, are not finite.
        """
        logits_BV = self.prior.logits(features_BW)
        self._unchecked.append(logits_BV)
        if len(self._unchecked) == _LOOKED_AT_TOGETHER:
            self.check_logits()
        return logits_BV

    def check_logits(self) -> None:
        """Checks the logits of all steps since the last call.

        Raises:
            NumericsError: some are not finite; the message names the level, the first such token and the songs.
        """
        logits, self._unchecked = self._unchecked, []
        if not logits or is_finite(torch.stack(logits)):
            return
        bad_TB = torch.stack([~torch.isfinite(each_BV).all(-1) for each_BV in logits]).cpu()
        first = self.state.cache.position - self.prior.config.lyric_positions - len(logits)
        songs = ", ".join(str(song) for song in bad_TB.any(0).nonzero()[:, 0].tolist())
        raise NumericsError(
            f"the logits of level {self.prior.config.level} are not finite (NaN or infinity) from token "
            f"{first + int(bad_TB.any(1).int().argmax())} of a window on, in songs {songs} of the batch; nothing "
            "is stored of it. Choose hardware.dtype=float32, or weights whose numbers are smaller"
        )

    def prefill_from(self, single: WindowDecoder) -> None:
        """Copies the state of `single`, a decoder of one song with the same conditioning, to every song of the batch.

        This decoder must be before its prefill.
        """
        position, songs = single.state.cache.position, self.condition.start_B1W.shape[0]
        for layer, other in zip(self.state.cache.layers, single.state.cache.layers, strict=True):
            layer.prefill_from(other, position)
        self.state.input_B1W = single.state.input_B1W.repeat(songs, 1, 1)
        self.state.cache.position = position

    def save(self) -> dict[str, Tensor]:
        """Returns the tensors of the state that `restore` needs, by name: caches, position and last input.

        They are not copies: copy or write them before the next step.
        """
        layers = {f"layer_{index}": layer.kv for index, layer in enumerate(self.state.cache.layers)}
        return {"position": torch.tensor(self.state.cache.position), "input": self.state.input_B1W, **layers}

    @torch.inference_mode()
    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """Restores a state that `save` returned for the same window of the same songs, bit for bit.

        Raises:
            ConfigError: The state is of another prior or of another batch.
        """
        layers = self.state.cache.layers
        if {name: tensor.shape for name, tensor in saved.items()} != {n: t.shape for n, t in self.save().items()}:
            raise ConfigError("the saved state is of another prior or batch; delete it to sample without it")
        for index, layer in enumerate(layers):
            layer.kv.copy_(saved[f"layer_{index}"])
        self.state.input_B1W = saved["input"].to(self.state.input_B1W)
        self.state.cache.position = int(saved["position"])


def decode_window(
    prior: Prior,
    condition: Condition,
    known_BT: Tensor,
    count: int,
    sampling: LevelSampling,
    noise: Noise,
    *,
    start: int,
    forced_BF: Tensor | None = None,
    prefill_chunk: int | None = None,
    flush: int = 64,
) -> Iterator[Tensor]:
    """Yields the new codes of a window from its start: `draw_codes` with a new decoder."""
    return draw_codes(
        WindowDecoder(prior, condition),
        known_BT,
        count,
        sampling,
        noise,
        start=start,
        forced_BF=forced_BF,
        prefill_chunk=prefill_chunk,
        flush=flush,
    )


@torch.inference_mode()
def draw_codes(
    decoder: WindowDecoder,
    known_BT: Tensor,
    count: int,
    sampling: LevelSampling,
    noise: Noise,
    *,
    start: int,
    forced_BF: Tensor | None = None,
    prefill_chunk: int | None = None,
    flush: int = 64,
    shared: int = 0,
) -> Iterator[Tensor]:
    """Yields the window's new codes, int64 [B, at most `flush`], in the order in which they are drawn.

    Where lyrics share the sequence they are prefilled first. A lyric character drawn in the place of a code is a
    negative code: the next steps read it unchanged, and `clamp_codes` replaces it once the window is full.

    Args:
        decoder: Of this window. After `restore`, positions that it holds are not computed again.
        known_BT: Known codes at the window's start, clamped (0 or above); T may be 0.
        count: Number of codes to add, forced ones included.
        sampling: How codes are drawn.
        noise: Called for the token at absolute position ``start + T + i`` to draw new code i.
        start: Absolute position of the window's first code in its level.
        forced_BF: The first F of the `count` codes as an interrupted attempt yielded them. They are fed through the
            same steps and not yielded again, so that the codes after them are the same, bit for bit.
        prefill_chunk: Known tokens per forward pass of the prefill; None is all.
        flush: Codes per block; the last block may be shorter.
        shared: Length of the common prefix of all songs, lyrics included, if their conditioning is identical. It is
            prefilled as a batch of one.

    Raises:
        ConfigError: The window would be longer than the context, there are more forced codes than new ones, fewer
            forced codes than the decoder holds, or the prior's layers cannot sample.
        NumericsError: Logits are not finite. This can come some blocks late, but before the last one.
    """
    prior, known, forced = decoder.prior, known_BT.shape[1], 0 if forced_BF is None else forced_BF.shape[1]
    if known + count > prior.config.context:
        raise ConfigError(
            f"{known} known and {count} new codes exceed the context, {prior.config.context}; ask for fewer"
        )
    if forced > count:
        raise ConfigError(f"{forced} forced codes are more than the {count} that the window adds; force fewer")
    if decoder.state.cache.position == 0:
        _prefill(decoder, prior.sequence(known_BT, decoder.condition), prefill_chunk, shared)
    read = decoder.state.cache.position - prior.config.lyric_positions - known
    if not 0 <= read <= forced:
        raise ConfigError(f"the decoder has read {read} codes after the known ones; give at least these as forced")
    left_BF = None if forced_BF is None else forced_BF[:, read:] + prior.shift
    blocks = decode(
        decoder, count - read, sampling, noise, position=start + known + read, forced_BF=left_BF, flush=flush
    )
    left = count - max(read, forced)
    for block_BT in blocks:
        left -= block_BT.shape[1]
        if not left:
            decoder.check_logits()
        yield block_BT - prior.shift


def _prefill(decoder: WindowDecoder, tokens_BT: Tensor, chunk: int | None, shared: int) -> None:
    """Prefills the known tokens of a window: the first `shared` as a batch of one, the others as the whole batch."""
    if shared and len(tokens_BT) > 1:
        single = WindowDecoder(decoder.prior, decoder.condition.first())
        prefill(single, tokens_BT[:1, :shared], chunk)
        decoder.prefill_from(single)
        tokens_BT = tokens_BT[:, shared:]
    prefill(decoder, tokens_BT, chunk)


def clamp_codes(codes_BT: Tensor) -> Tensor:
    """Returns a full window with drawn lyric characters, which are negative, as code 0 (docs/upstream.md, Priors)."""
    return codes_BT.clamp(min=0)
