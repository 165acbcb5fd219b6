"""The prior of one level: an autoregressive model of codes, conditioned on labels, timing, lyrics and the level above.

See docs/upstream.md, Priors. `Prior.forward` computes a whole window at once, for training and as the oracle.
`new_state`, `extend`, `predict` and `feed` compute it incrementally, with a state that the caller owns: `decoder`
samples with them.

Where lyrics and music share one sequence, *tokens* are numbers of the joint vocabulary, lyric characters first, and
*codes* are the music's own; a code plus `Prior.shift` is its token.

Shape suffixes: B batch, T positions or codes, P positions of a whole sequence, N lyric tokens or label columns,
U codes of the level above, V vocabulary, W width, Q queries, K keys, H heads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F  # noqa: N812 - the field's usual name
from torch import Tensor, nn

from jukebox_core.errors import ConfigError, LabelError
from jukebox_core.families.jukebox.model.attention_patterns import AttentionType, attention_types
from jukebox_core.families.jukebox.model.conditioners import (
    ARTIST,
    FIRST_GENRE,
    CodeConditioner,
    LabelEmbedding,
    LyricEncoder,
    TimingEmbedding,
)
from jukebox_core.families.jukebox.model.layers import Projection
from jukebox_core.families.jukebox.model.transformer import TokenTransformer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from jukebox_core.families.jukebox.config import PriorConfig, VQVAEConfig
    from jukebox_core.families.jukebox.model.cache import TransformerCache


@dataclass(frozen=True, slots=True)
class Condition:
    """Conditioning of a window, computed once by `Prior.condition`; float32, except for the lyric tokens."""

    start_B1W: Tensor  # the input of position 0
    signal_BTW: Tensor | None  # added at every music position: timing at the top level, upsampled codes at the others
    lyrics_BN: Tensor | None  # lyric tokens, int64
    encoder_BNW: Tensor | None  # the lyric encoder's output

    def first(self) -> Condition:
        """Returns the conditioning of the first sample, as a batch of one."""
        return self._map(lambda tensor: tensor[:1])

    def expand(self, batch: int) -> Condition:
        """Returns the conditioning of one sample, broadcast over a batch without copying."""
        return self._map(lambda tensor: tensor.expand(batch, *tensor.shape[1:]))

    def _map(self, change: Callable[[Tensor], Tensor]) -> Condition:
        tensors = (self.start_B1W, self.signal_BTW, self.lyrics_BN, self.encoder_BNW)
        start, *others = (None if tensor is None else change(tensor) for tensor in tensors)
        assert start is not None
        return Condition(start, *others)


@dataclass(frozen=True, slots=True)
class Losses:
    """Cross entropies in bits per token, 0-dimensional."""

    total: Tensor
    lyrics: Tensor
    music: Tensor
    attention: dict[int, Tensor]  # recorded weights by layer, as `Prior.attention_weights` returns them


@dataclass(slots=True)
class WindowState:
    """State of the incremental forward pass over one window of one batch: the KV cache and the next input."""

    cache: TransformerCache
    signal_BTW: Tensor | None  # added at every music position
    input_B1W: Tensor  # input of the next position: embedding of the last token, or the start vector


class Prior(nn.Module):
    """The autoregressive transformer of one level, with its conditioners.

    Args:
        config: The prior's sizes.
        vqvae: The VQ-VAE whose codes it models; gives the vocabulary, the rates, and the upsampling factors.
    """

    def __init__(self, config: PriorConfig, vqvae: VQVAEConfig) -> None:
        super().__init__()
        width, lyrics, above = config.transformer.width, config.lyrics, config.level + 1
        self.config = config
        self.compute_dtype = torch.float32
        self.shift = lyrics.characters if lyrics is not None and config.single_sequence else 0
        vocabulary = self.shift + vqvae.bins
        self.body = TokenTransformer(
            config.transformer, vocabulary=vocabulary, positions=config.positions, prime=config.lyric_positions
        )
        self.output = nn.Linear(width, vocabulary, bias=False)
        if config.merged_decoder:
            nn.init.normal_(self.output.weight, std=0.02)
        else:
            self.output.weight = self.body.embedding.weight
        self.labels = LabelEmbedding(config.labels, width) if config.labels else None
        self.timing = TimingEmbedding(config.timing, width, vqvae.sample_rate) if config.timing else None
        self.start_1W = None if config.labels else nn.Parameter(torch.zeros(1, width))
        self.above, self.lyric_encoder, self.above_tokens = None, None, 0
        if config.upsample:
            times, stride = vqvae.downs[above], vqvae.strides[above]
            self.above = CodeConditioner(config.upsample, width, bins=vqvae.bins, times=times, stride=stride)
            self.above_tokens = config.context // stride**times
        if lyrics is not None and lyrics.encoder is not None:
            self.lyric_encoder = LyricEncoder(
                lyrics.encoder, tokens=lyrics.tokens, characters=lyrics.characters, width=width
            )

    @property
    def vocabulary(self) -> int:
        """Number of logits: codes, and lyric characters where they share the sequence."""
        return self.output.out_features

    @property
    def device(self) -> torch.device:
        """Device of its weights."""
        return self.output.weight.device

    def set_compute_dtype(self, dtype: torch.dtype) -> None:
        """Sets the dtype that the transformer computes in, and converts its projections to it; all else stays float32.

        With bfloat16 the convolutions over the codes above are converted too; their residual stream stays float32.
        Without this call the transformer computes in float32, and half-precision projections are converted at each
        use.
        """
        self.compute_dtype = dtype
        for module in self.body.transformer.modules():
            if isinstance(module, Projection):
                module.to(dtype)
        if self.above is not None and dtype is torch.bfloat16:  # float16 would overflow in the residual stream
            self.above.upsampler.to(dtype)

    def condition(self, labels_BN: Tensor, codes_above_BU: Tensor | None = None) -> Condition:
        """Returns the conditioning of a window.

        Args:
            labels_BN: Label rows of the window, int64 (columns: see `conditioners`).
            codes_above_BU: The codes of the level above at the time of the window, int64; for upsamplers.

        Raises:
            ConfigError: Codes above are missing, of a wrong length, or given to a level without an upsampler.
            LabelError: A row has a wrong length, an id is not in the tables, or a time is out of range.
        """
        config = self.config
        if not torch.compiler.is_compiling():  # a graph cannot raise
            self._check_labels(labels_BN)
        if (self.above is None) != (codes_above_BU is None):
            need = "takes no codes of a level above" if self.above is None else "needs the codes of the level above"
            raise ConfigError(f"the prior of level {config.level} {need}; call condition accordingly")
        signal = None
        if codes_above_BU is not None and self.above is not None:
            if codes_above_BU.shape[1] != self.above_tokens:
                raise ConfigError(
                    f"{codes_above_BU.shape[1]} codes above do not cover a window of level {config.level}; "
                    f"give exactly {self.above_tokens}"
                )
            signal = self.above(codes_above_BU)
        elif self.timing is not None:
            signal = self.timing(labels_BN, config.context)
        lyrics = labels_BN[:, -config.lyrics.tokens :] if config.lyrics is not None else None
        encoder = self.lyric_encoder(lyrics) if self.lyric_encoder is not None else None
        return Condition(self._start(labels_BN), signal, lyrics, encoder)

    def forward(self, codes_BT: Tensor, condition: Condition) -> Tensor:
        """Returns the logits [B, P, V] of every position of a full window, each predicted from the ones before it.

        P is the lyric positions, where lyrics share the sequence, and the music positions.

        Raises:
            ConfigError: The codes are not a full window.
        """
        return self.logits(self.features(codes_BT, condition)[0])

    def features(
        self, codes_BT: Tensor, condition: Condition, *, record: Collection[int] = ()
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """Returns the last hidden states [B, P, W], the input of `logits`, and the weights of the layers in `record`.

        Raises:
            ConfigError: The codes are not a full window.
        """
        if codes_BT.shape[1] != self.config.context:
            raise ConfigError(f"{codes_BT.shape[1]} codes are not a full window; give {self.config.context}")
        signal_BPW = self.signal(condition)
        out_BPW, recorded = self.body(
            self.sequence(codes_BT, condition),
            condition.start_B1W,
            signal_BPW,
            condition.encoder_BNW,
            dtype=self.compute_dtype,
            record=record,
        )
        add_signal = signal_BPW is not None and not self.config.merged_decoder
        return (out_BPW + signal_BPW if add_signal else out_BPW), recorded

    def logits(self, features: Tensor) -> Tensor:
        """Returns float32 logits [..., V] for features [..., W]."""
        return cast("Tensor", self.output(features))

    def sequence(self, codes_BT: Tensor, condition: Condition) -> Tensor:
        """Returns tokens [B, N + T]: the lyrics where they share the sequence, then the codes' tokens."""
        if not self.config.single_sequence:
            return codes_BT
        return torch.cat([cast("Tensor", condition.lyrics_BN), codes_BT + self.shift], dim=1)

    def losses(self, codes_BT: Tensor, condition: Condition, *, record: Collection[int] = ()) -> Losses:
        """Returns the losses of a full window of codes and of its lyrics (docs/upstream.md, Priors)."""
        features_BPW, recorded = self.features(codes_BT, condition, record=record)
        attention = self._to_lyrics(recorded)
        logits_BPV = self.logits(features_BPW)
        tokens_BP = self.sequence(codes_BT, condition)
        lyric_positions = self.config.lyric_positions
        music = _bits(logits_BPV[:, lyric_positions:], tokens_BP[:, lyric_positions:])
        if self.config.lyrics is None:
            return Losses(music, torch.zeros_like(music), music, attention)
        if self.lyric_encoder is None:
            lyrics = _bits(logits_BPV[:, :lyric_positions], tokens_BP[:, :lyric_positions])
        else:
            lyrics = _bits(self.lyric_encoder.output(condition.encoder_BNW), cast("Tensor", condition.lyrics_BN))
        characters, codes = self.config.lyrics.tokens, self.config.context
        weighted = self.config.lyrics.loss_fraction * lyrics * characters + music * codes
        return Losses(weighted / (characters + codes), lyrics, music, attention)

    def attention_weights(self, codes_BT: Tensor, condition: Condition, layers: Collection[int]) -> dict[int, Tensor]:
        """Returns the attention weights of some layers over a full window, float32 [F, H, Q, K] by layer.

        Layers of types 1 to 3 are folded into rows or columns (F is their number times B). Layers of type 7 give the
        weights from music to lyrics, [B, H, context, N], whose rows need not sum to 1.
        """
        return self._to_lyrics(self.features(codes_BT, condition, record=layers)[1])

    def _to_lyrics(self, recorded: dict[int, Tensor]) -> dict[int, Tensor]:
        kinds = attention_types(self.config.transformer.attention_order, self.config.transformer.depth)
        lyrics = self.config.lyric_positions
        return {
            layer: weights_FHQK[:, :, lyrics:, :lyrics] if kinds[layer] is AttentionType.PRIME else weights_FHQK
            for layer, weights_FHQK in recorded.items()
        }

    def new_state(self, condition: Condition) -> WindowState:
        """Returns the initial state of a window, with the keys and values of the lyric encoder.

        Raises:
            ConfigError: The attention order has summary layers, which cannot sample.
        """
        start = condition.start_B1W
        cache = self.body.transformer.new_cache(
            start.shape[0], dtype=self.compute_dtype, device=start.device, encoder_BNW=condition.encoder_BNW
        )
        return WindowState(cache, condition.signal_BTW, start)

    def extend(self, state: WindowState, tokens_BT: Tensor) -> Tensor:
        """Prefill: appends tokens to the state; returns the features [B, T, W] that predict each of them."""
        embedded_BTW = self.body.embedding(tokens_BT)
        inputs_BTW = torch.cat([state.input_B1W, embedded_BTW[:, :-1]], dim=1)
        state.input_B1W = embedded_BTW[:, -1:]
        return self._extend(state, inputs_BTW)

    def predict(self, state: WindowState) -> Tensor:
        """Returns the features [B, 1, W] that predict the next token; call `feed` with that token afterwards."""
        return self._extend(state, state.input_B1W)

    def feed(self, state: WindowState, tokens_B: Tensor) -> None:
        """Sets the tokens at the position that `predict` computed; they are the input of the next one."""
        state.input_B1W = self.body.embedding(tokens_B[:, None])

    def _extend(self, state: WindowState, inputs_BTW: Tensor) -> Tensor:
        first = state.cache.position
        stop = first + inputs_BTW.shape[1]
        added_BTW = self.body.position_PW[first:stop]
        signal_BTW = None if state.signal_BTW is None else self._signal_at(state.signal_BTW, first, stop)
        if signal_BTW is not None:
            added_BTW = added_BTW + signal_BTW
        x_BTW = (inputs_BTW + added_BTW).to(self.compute_dtype)
        out_BTW = self.body.transformer.extend(x_BTW, state.cache).float()
        return out_BTW if signal_BTW is None or self.config.merged_decoder else out_BTW + signal_BTW

    def _start(self, labels_BN: Tensor) -> Tensor:
        config = self.config.labels
        if self.labels is None or config is None:
            return cast("Tensor", self.start_1W).expand(labels_BN.shape[0], 1, -1)
        genres_BG = labels_BN[:, FIRST_GENRE : FIRST_GENRE + config.max_genre_words]
        return cast("Tensor", self.labels(labels_BN[:, ARTIST], genres_BG))

    def signal(self, condition: Condition) -> Tensor | None:
        """Returns the signal at every position: zeros at the lyric positions before the music."""
        if condition.signal_BTW is None or not self.config.lyric_positions:
            return condition.signal_BTW
        return F.pad(condition.signal_BTW, (0, 0, self.config.lyric_positions, 0))

    def _signal_at(self, signal_BTW: Tensor, first: int, stop: int) -> Tensor:
        """Returns the signal at the positions from `first` to `stop`: zeros at lyric positions."""
        lyrics = self.config.lyric_positions
        if first >= lyrics:
            return signal_BTW[:, first - lyrics : stop - lyrics]
        return F.pad(signal_BTW[:, : max(0, stop - lyrics)], (0, 0, min(stop, lyrics) - first, 0))

    def _check_labels(self, labels_BN: Tensor) -> None:
        config, lyrics = self.config.labels, self.config.lyrics
        genres = config.max_genre_words if config else 0
        columns = (FIRST_GENRE + genres if config else ARTIST) + (lyrics.tokens if lyrics else 0)
        if labels_BN.shape[1] != columns:
            raise LabelError(f"label rows have {labels_BN.shape[1]} columns; level {self.config.level} takes {columns}")
        if config is None:
            return
        ids = (
            ("artist", labels_BN[:, ARTIST], 0, config.artists),
            ("genre", labels_BN[:, FIRST_GENRE : FIRST_GENRE + genres], -1, config.genres),
        )
        for name, values, lowest, rows in ids:
            if values.min() < lowest or values.max() >= rows:
                raise LabelError(f"a {name} id is {int(values.max())}; this prior has {lowest} to {rows - 1}")


def _bits(logits_BTV: Tensor, tokens_BT: Tensor) -> Tensor:
    return F.cross_entropy(logits_BTV.flatten(0, 1), tokens_BT.flatten()) / math.log(2)
