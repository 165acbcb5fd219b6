"""Features in memory: the arrays of one recording, with what is needed to read them. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jukebox_core.errors import AudioError, ConfigError, JukeboxError
from jukebox_core.features.extract import Networks, Recording, extract
from jukebox_core.features.pooling import row_rate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from jukebox_core.features.config import FeatureConfig, FeatureSizes


@dataclass(frozen=True, slots=True)
class Features:
    """Codes and activations of one recording.

    Arrays by name: ``layer<k>`` and ``final``, float32 or float16 [width] if pooled, else [rows, width]; ``codes<l>``,
    int64 [tokens]. A recipe with slices has an axis of clips in front.
    """

    arrays: Mapping[str, NDArray[Any]]
    recipe: FeatureConfig
    sizes: FeatureSizes

    def __getitem__(self, name: str | int) -> NDArray[Any]:
        """Returns an array by name, or a layer's by its number.

        Raises:
            ConfigError: it was not asked for.
        """
        key = f"layer{name}" if isinstance(name, int) else name
        if key not in self.arrays:
            raise ConfigError(f"{name!r} is not among these features; they are {', '.join(self.arrays)}")
        return self.arrays[key]

    @property
    def rate(self) -> float | None:
        """Rows of activations a second, Hz; None where they are pooled."""
        return row_rate(self.recipe, self.sizes.code_rate)


def recordings_of(
    audio: Any,
    codes: Mapping[int, NDArray[np.integer[Any]]] | None,
    song: Any,
    total_seconds: float | None,
    offset_seconds: float,
) -> list[Recording]:
    """Returns recordings from audio, float32 [time] or a list of these, or from codes by level, int [tokens].

    Raises:
        ConfigError: neither or both are given, or codes of another shape or type.
        AudioError: audio of another shape, or values that are not finite.
    """
    if (audio is None) == (codes is None):
        raise ConfigError("give either audio or from_codes")
    if total_seconds is None:
        total_seconds = getattr(song, "total_seconds", None)
    offset_seconds = offset_seconds or getattr(song, "offset_seconds", 0.0)
    common: dict[str, Any] = {"song": song, "total_seconds": total_seconds, "offset_seconds": offset_seconds}
    if codes is not None:
        return [Recording(codes={level: _tokens(level, values) for level, values in codes.items()}, **common)]
    sounds = list(audio) if isinstance(audio, list | tuple) else [audio]
    return [Recording(audio=_mono(sound, number), **common) for number, sound in enumerate(sounds)]


def extract_all(recordings: Sequence[Recording], networks: Networks) -> list[Features]:
    """Returns the features of every recording; raises the error of the first that cannot be used."""
    found: dict[int, Features] = {}
    for index, arrays in extract(recordings, networks):
        if isinstance(arrays, JukeboxError):
            raise arrays
        found[index] = Features(arrays, networks.config, networks.sizes)
    return [found[index] for index in range(len(recordings))]


def _mono(sound: Any, number: int) -> NDArray[np.float32]:
    samples = np.asarray(sound)
    if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
        raise AudioError(
            f"recording {number} is {samples.dtype} of shape {samples.shape}; give mono floating-point audio [time], "
            "or a list of such recordings"
        )
    if not np.isfinite(samples).all():
        raise AudioError(f"recording {number} has values that are not finite; export it again")
    return samples.astype(np.float32, copy=False)


def _tokens(level: int, values: Any) -> NDArray[np.integer[Any]]:
    tokens = np.asarray(values)
    if tokens.ndim == 2 and len(tokens) == 1:
        tokens = tokens[0]
    if tokens.ndim != 1 or not tokens.size or not np.issubdtype(tokens.dtype, np.integer):
        raise ConfigError(
            f"from_codes[{level}] is {tokens.dtype} of shape {tokens.shape}; give at least one whole number, [tokens]"
        )
    return tokens
