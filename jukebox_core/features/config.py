"""Recipes of features, as frozen records that check themselves (conf/features/*.yaml). Imports no torch.

A recipe says which parts of a recording are encoded, which windows of codes the network reads and with which timing,
and what is kept of its activations. Layers count from 1: layer k is the output of block k, with both of its residual
updates and without a norm (docs/features.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from jukebox_core.base.checks import require

MANIFEST = "features.json"  # of a folder of features

FINAL = "final"
"""Name of the activations that the output projection reads; `layer_name` and `codes_name` give the other names."""


def layer_name(layer: int) -> str:
    """Returns the name of a layer's array, such as ``layer36``."""
    return f"layer{layer}"


def codes_name(level: int) -> str:
    """Returns the name of the array with the codes of a level, such as ``codes2``."""
    return f"codes{level}"


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureSizes:
    """Sizes of the network that features are taken from; `shortest` and `longest` bound the total length it knows."""

    level: int
    depth: int  # layers
    width: int  # of an activation
    context: int  # codes of a full window
    hop: int  # audio samples per code
    rate: int  # audio samples a second, Hz
    shortest: int = 0  # audio samples
    longest: float = math.inf  # audio samples; totals are below, ends of windows at most this

    @property
    def code_rate(self) -> float:
        """Codes, and rows of activations, a second."""
        return self.rate / self.hop

    def whole(self, samples: float) -> int:
        """Returns the samples of the whole codes in `samples`."""
        return int(samples) // self.hop * self.hop


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureConfig:
    """One recipe. Lengths are in seconds of audio; null where a field says so."""

    name: str = "custom"  # of the recipe; folders are named after it
    level: int | None = None  # level of the network whose activations are taken; null: the top level
    layers: tuple[int, ...] | None = None  # counted from 1; null: the middle one; empty: none
    final: bool = False  # the activations that the output projection reads
    codes: tuple[int, ...] = ()  # levels whose codes are kept; -1 is the top level

    # Audio
    normalise: bool = True  # divide each clip by its peak
    slice_seconds: float | None = None  # cut a recording into clips of this length; null: it is one clip
    slice_hop_seconds: float | None = None  # start of a clip after the one before; null: slice_seconds
    sixteen_bit: bool = False  # round clips down to 16 bits before they are normalised

    # Windows of codes
    encode: Literal["clip", "window"] = "clip"  # encode a clip as a whole, or the audio of each window by itself
    encode_seconds: float | None = None  # at most so much of a clip is encoded; null: all of it
    windows: Literal["first", "all"] = "all"  # the first window of a clip, or as many as cover it
    hop: float = 1.0  # start of a window after the one before, as a share of the context
    short: Literal["keep", "pad_window", "pad_minimum", "refuse"] = "keep"  # what fills no window, or no shortest song
    trim: bool = True  # leave out rows and codes of padding

    # Timing that the network is conditioned on
    timing: Literal["song", "chunks", "fixed"] = "song"  # true; as sheetsage computes it; `fixed_seconds` from 0 on
    fixed_seconds: float | None = None  # for `fixed`: length of the song that is claimed
    shortest_seconds: float | None = None  # total lengths are moved within these bounds; null: the model's own
    longest_seconds: float | None = None  # likewise

    # Rows
    rate: float | None = None  # rows a second after resampling, Hz; null: one row a code
    resample: Literal["fourier", "frames"] = "fourier"  # how: by FFT, or means of whole frames
    pooling: Literal["none", "mean", "max"] = "none"  # over the (resampled) rows of a clip
    dtype: Literal["float32", "float16"] = "float32"  # of the arrays

    def __post_init__(self) -> None:
        """Checks ranges and which fields go together."""
        for name in (
            "slice_seconds", "slice_hop_seconds", "encode_seconds", "fixed_seconds", "shortest_seconds",
            "longest_seconds", "rate",
        ):  # fmt: skip
            value = getattr(self, name)
            require(value is None or 0 < value < math.inf, f"{name} is {value}; it must be above 0 and finite")
        require(0 < self.hop <= 1, f"hop is {self.hop}; it must be above 0 and at most 1, a share of the context")
        for name in ("layers", "codes"):
            values = getattr(self, name) or ()
            require(len(set(values)) == len(values), f"{name} is {list(values)}; name each of them once")
        require(
            bool(self.codes) or self.final or self.layers != (),
            "layers is empty, final is false and codes is empty; ask for at least one of them",
        )
        require(
            (self.timing == "fixed") == (self.fixed_seconds is not None),
            f"timing is {self.timing} and fixed_seconds is {self.fixed_seconds}; "
            "give fixed_seconds with timing=fixed, and null otherwise",
        )
        require(
            self.slice_hop_seconds is None or self.slice_seconds is not None,
            f"slice_hop_seconds is {self.slice_hop_seconds}, but slice_seconds is null; give it too",
        )
        require(
            self.encode == "clip" or (self.encode_seconds is None and self.hop == 1),
            "encode=window encodes windows one by one, so it takes no encode_seconds and hop=1; choose encode=clip",
        )

    def chosen_layers(self, sizes: FeatureSizes) -> tuple[int, ...]:
        """Returns the layers that are taken, ascending.

        Raises:
            ConfigError: the network does not have one of them.
        """
        layers = (max(1, sizes.depth // 2),) if self.layers is None else tuple(sorted(self.layers))
        for layer in layers:
            require(
                1 <= layer <= sizes.depth,
                f"layers names {layer}, but the network of level {sizes.level} has layers 1 to {sizes.depth}; "
                "choose among these, or a model that has it",
            )
        return layers

    def chosen_codes(self, levels: int) -> tuple[int, ...]:
        """Returns the levels whose codes are kept, of a model with `levels` levels.

        Raises:
            ConfigError: the model does not have one of them.
        """
        for level in self.codes:
            require(
                -levels <= level < levels,
                f"codes names level {level}; choose among 0 to {levels - 1}, or -1 for the top level",
            )
        return tuple(dict.fromkeys(level % levels for level in self.codes))

    def chosen_level(self, levels: int) -> int:
        """Returns the level of the network, of a model with `levels` levels.

        Raises:
            ConfigError: the model does not have it.
        """
        level = levels - 1 if self.level is None else self.level
        require(0 <= level < levels, f"level is {level}; choose one of 0 to {levels - 1}, or null for the top level")
        return level

    @property
    def needs_network(self) -> bool:
        """Whether activations are taken; codes alone need only the codec."""
        return self.final or self.layers != ()
