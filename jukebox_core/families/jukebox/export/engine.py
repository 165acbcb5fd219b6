"""A Jukebox model as graphs in onnxruntime: priors and their states, and the codec. Legend as in `prior_graphs`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from jukebox_core.errors import AudioError, ConfigError
from jukebox_core.families.jukebox.export.names import CONDITION, DECODER, ENCODER, PREFILL, STEP, cache_axes
from jukebox_core.families.jukebox.model.cache import LayerCache, TransformerCache
from jukebox_core.families.jukebox.model.prior import Condition, Prior, WindowState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from jukebox_core.export.session import Session
    from jukebox_core.families.jukebox.config import JukeboxConfig, PriorConfig
    from jukebox_core.families.jukebox.model.vqvae import VQVAE, LevelCodec

_HOST = torch.device("cpu")  # where sessions take and leave tensors, whatever computes
_PIECE_SECONDS = 10.0  # of audio that is encoded or decoded at once


@dataclass(slots=True)
class GraphState(WindowState):
    """The caches of a window, its conditioning, and the last token."""

    condition: dict[str, NDArray[Any]] = field(default_factory=dict)


class GraphPrior(Prior):
    """What sampling uses of a prior: conditioning, prefill of a window from its start, and steps.

    `predict` returns logits in the place of features; `logits` returns them as they are.
    """

    def __init__(self, config: PriorConfig, sessions: Mapping[str, Session]) -> None:
        """Takes the place of a prior's weights by sessions, by the names of graphs."""
        nn.Module.__init__(self)
        self.config = config
        lyrics = self.config.lyrics
        self.shift = lyrics.characters if lyrics is not None and self.config.single_sequence else 0
        self._condition, self._prefill, self._step = (
            sessions[f"{part}_{config.level}"] for part in (CONDITION, PREFILL, STEP)
        )

    @property
    def device(self) -> torch.device:
        """Where sessions take and leave tensors."""
        return _HOST

    def condition(self, labels_BN: Tensor, codes_above_BU: Tensor | None = None) -> Condition:
        """Returns the conditioning of a window."""
        given = {"labels": labels_BN.contiguous().numpy()}
        if codes_above_BU is not None:
            given["above"] = codes_above_BU.contiguous().numpy()
        made = dict(zip(self._condition.outputs, map(torch.from_numpy, self._condition.run(given)), strict=True))
        lyrics = labels_BN[:, -self.config.lyrics.tokens :] if self.config.lyrics is not None else None
        return Condition(made["start"], made.get("signal"), lyrics, made.get("encoder"))

    def new_state(self, condition: Condition) -> GraphState:
        """Returns the initial state of a window."""
        named = {"start": condition.start_B1W, "signal": condition.signal_BTW, "encoder": condition.encoder_BNW}
        given = {name: np.ascontiguousarray(each.numpy()) for name, each in named.items() if each is not None}
        batch = condition.start_B1W.shape[0]
        shapes = [tuple(batch if isinstance(axis, str) else axis for axis in axes) for axes in cache_axes(self.config)]
        layers = [LayerCache(torch.zeros(shape)) for shape in shapes]
        state = GraphState(TransformerCache(layers), condition.signal_BTW, condition.start_B1W, given)
        if condition.encoder_BNW is not None:
            self._read(state, torch.zeros(batch, 0, dtype=torch.int64))
        return state

    def extend(self, state: WindowState, tokens_BT: Tensor) -> Tensor:
        """Appends tokens to the state; returns nothing of use, as only the prefill of known tokens calls it."""
        assert isinstance(state, GraphState)
        if state.cache.position == 0:
            self._read(state, tokens_BT)
            state.cache.position = tokens_BT.shape[1]
            self.feed(state, tokens_BT[:, -1])
        else:
            for token_B in tokens_BT.unbind(1):
                self.predict(state)
                self.feed(state, token_B)
        return tokens_BT

    def predict(self, state: WindowState) -> Tensor:
        """Returns the logits [B, 1, V] of the next token; call `feed` with that token afterwards."""
        assert isinstance(state, GraphState)
        token_B = _token(state)
        given = {"token": token_B, "position": np.array([state.cache.position]), **state.condition, **_caches(state)}
        logits_BV, *changed = self._step.run({name: given[name] for name in self._step.inputs})
        names = (name.removesuffix("_out") for name in self._step.outputs[1:])
        self._keep(state, dict(zip(names, changed, strict=True)))
        state.cache.position += 1
        return torch.from_numpy(logits_BV)[:, None]

    def feed(self, state: WindowState, tokens_B: Tensor) -> None:
        """Sets the tokens at the position that `predict` computed; they are the input of the next one."""
        state.input_B1W = tokens_B[:, None, None]

    def logits(self, features: Tensor) -> Tensor:
        """Returns `features`: they are logits."""
        return features

    def _read(self, state: GraphState, tokens_BT: Tensor) -> None:
        padded = np.zeros((len(tokens_BT), self.config.positions), np.int64)
        padded[:, : tokens_BT.shape[1]] = tokens_BT.numpy()
        given = {"tokens": padded, "known": np.array([tokens_BT.shape[1]]), **state.condition}
        found = self._prefill.run({name: given[name] for name in self._prefill.inputs})
        self._keep(state, dict(zip(self._prefill.outputs, found, strict=True)))

    @staticmethod
    def _keep(state: GraphState, caches: Mapping[str, NDArray[Any]]) -> None:
        for name, kv in caches.items():
            state.cache.layers[int(name.removeprefix("cache_"))] = LayerCache(torch.from_numpy(kv))


def _token(state: GraphState) -> NDArray[Any]:
    """Returns the last token of each row; before the first one the start vector is in its place, and none is read."""
    last = state.input_B1W
    return np.zeros(len(last), np.int64) if last.is_floating_point() else last[:, 0, 0].contiguous().numpy()


def _caches(state: GraphState) -> dict[str, NDArray[Any]]:
    return {f"cache_{index}": layer.kv.numpy() for index, layer in enumerate(state.cache.layers)}


@dataclass(frozen=True, slots=True)
class GraphCodec:
    """A VQ-VAE as graphs; `jukebox_core.protocols.Codec`. Pieces are computed with what reaches into them."""

    config: JukeboxConfig
    sessions: Mapping[str, Session]
    reaches: tuple[tuple[int, int], ...]  # of each level, of encoder and decoder: tokens on either side
    code_axes: int = field(default=1, init=False)

    def encode(self, audio: NDArray[np.float32], levels: Sequence[int]) -> list[NDArray[np.int32]]:
        """Returns the codes of audio [batch, time] at each of `levels`, int32 [batch, tokens].

        Raises:
            AudioError: the audio is shorter than one token of a level.
        """
        return [self._encoded(audio, level) for level in levels]

    def decode(self, codes: NDArray[np.integer[Any]], level: int) -> NDArray[np.float32]:
        """Returns audio, float32 [batch, time], of one level's codes [batch, tokens]; it may exceed 1.

        Raises:
            ConfigError: values outside the codebook.
        """
        bins, hop, session = self.config.vqvae.bins, self.config.hops[level], self.sessions[f"{DECODER}_{level}"]
        if codes.size and not 0 <= codes.min() <= codes.max() < bins:
            raise ConfigError(f"codes reach from {codes.min()} to {codes.max()}; this codebook has 0 to {bins - 1}")
        made = []
        for first, stop, low, high in self._pieces(codes.shape[1], level, self.reaches[level][1]):
            audio = session.run({"codes": np.ascontiguousarray(codes[:, low:high], np.int64)})[0]
            made.append(audio[:, (first - low) * hop : (stop - low) * hop])
        return np.concatenate(made, 1) if made else np.zeros((len(codes), 0), np.float32)

    def decode_reach(self, level: int) -> int:
        """Returns the decoder's receptive field: tokens on either side of a token that change its audio."""
        return self.reaches[level][1]

    def _encoded(self, audio: NDArray[np.float32], level: int) -> NDArray[np.int32]:
        hop, session = self.config.hops[level], self.sessions[f"{ENCODER}_{level}"]
        total = audio.shape[1] // hop
        if not total:
            raise AudioError(f"audio has {audio.shape[1]} samples; level {level} needs at least {hop}, one token")
        made = []
        for first, stop, low, high in self._pieces(total, level, self.reaches[level][0]):
            end = audio.shape[1] if high == total else high * hop
            codes = session.run({"audio": np.ascontiguousarray(audio[:, low * hop : end])})[0]
            made.append(codes[:, first - low : stop - low].astype(np.int32))
        return np.concatenate(made, 1)

    def _pieces(self, total: int, level: int, reach: int) -> list[tuple[int, int, int, int]]:
        """Returns the tokens of each piece, and those that are computed with them."""
        size = max(1, int(_PIECE_SECONDS * self.config.sample_rate / self.config.hops[level]))
        starts = range(0, total, size)
        return [(at, min(at + size, total), max(0, at - reach), min(total, at + size + reach)) for at in starts]


def graph_codec(config: JukeboxConfig, vqvae: VQVAE, sessions: Mapping[str, Session]) -> GraphCodec:
    """Returns the codec whose graphs are in `sessions`; of `vqvae` only the sizes are used."""
    levels = [cast("LevelCodec", each) for each in vqvae.levels]
    return GraphCodec(config, sessions, tuple((each.encoder_reach(), each.decoder_reach()) for each in levels))
