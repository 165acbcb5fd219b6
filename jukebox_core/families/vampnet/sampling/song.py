"""A variation as a song of a run: which tokens of the recording are generated, and its number. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jukebox_core.base.checks import require
from jukebox_core.errors import ConfigError
from jukebox_core.families.vampnet.masks.config import MaskConfig

if TYPE_CHECKING:
    from jukebox_core.families.vampnet.config import VampNetConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Varied:
    """One variation of a recording."""

    mask: MaskConfig = field(default_factory=MaskConfig)
    variation: int = 0  # its number among those of the recording, which decides its noise

    def __post_init__(self) -> None:
        """Checks the number."""
        require(self.variation >= 0, f"variation is {self.variation}; variations are counted from 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class VariedOverride:
    """What one variation has of its own."""

    mask: MaskConfig | None = None
    variation: int | None = None

    def apply(self, song: Varied) -> Varied:
        """Returns `song` with the fields that are set here replaced."""
        return Varied(
            mask=song.mask if self.mask is None else self.mask,
            variation=song.variation if self.variation is None else self.variation,
        )


def check_mask_of(config: VampNetConfig, mask: MaskConfig) -> None:
    """Checks a mask against a model.

    Raises:
        ConfigError: it names codebooks that the model does not have; the message starts with the setting's name.
    """
    books = config.network.codec.n_codebooks
    for name in ("keep_codebooks", "upper_codebook_mask"):
        value = getattr(mask, name)
        if value is not None and value > books:
            raise ConfigError(f"mask.{name} is {value}, but {config.name} has {books} codebooks; choose 0 to {books}")


def described(mask: MaskConfig) -> str:
    """Returns the parts of a mask in words, for reports."""
    said = []
    if mask.random < 1:
        said.append(f"generates a token with probability {mask.random:g}")
    if mask.period:
        said.append(f"keeps {mask.period_width} of {mask.period} steps")
    if mask.prefix_seconds or mask.suffix_seconds:
        said.append(f"keeps the first {mask.prefix_seconds:g} s and the last {mask.suffix_seconds:g} s")
    said += [f"generates {each.start:g} to {each.stop:g} s" for each in mask.ranges]
    if mask.onset_width:
        said.append(f"keeps {mask.onset_width} steps around {len(mask.onsets)} onsets")
    if mask.beats.used:
        said.append(f"{'generates' if mask.beats.invert else 'keeps'} what is around {len(mask.beats.times)} beats")
    if mask.drawn:
        said.append("is drawn by hand")
    if mask.dropout:
        said.append(f"generates {mask.dropout:.0%} of the steps in any case")
    if mask.keep_codebooks:
        said.append(f"keeps the first {mask.keep_codebooks} codebooks")
    if mask.upper_codebook_mask is not None:
        said.append(f"generates codebooks from number {mask.upper_codebook_mask + 1} on")
    if mask.stretch > 1:
        said.append(f"slows down by {mask.stretch}")
    return "; ".join(said) or "generates everything"
