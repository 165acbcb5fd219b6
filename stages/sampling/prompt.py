"""What a song begins with: an excerpt of a recording, and the keys its codes are stored under. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jukebox_core.base.hashing import digest, digest_bytes
from jukebox_core.composer.builtin import read_prompt_audio
from jukebox_core.tokens.graph import Take, Track

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from jukebox_core.families.jukebox.config import JukeboxConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Excerpt:
    """A part of an audio file; lengths in seconds."""

    path: str
    seconds: float | None  # None: to the end
    offset_seconds: float = 0.0
    longest: float | None = None  # if `seconds` is None, stop here at the latest

    def read(self, config: JukeboxConfig) -> NDArray[np.float32]:
        """Returns the sound, float32 [time], at the model's rate, cut to whole top-level tokens.

        Raises:
            AudioError: the file is missing, not audio, or shorter than asked.
        """
        rate, hop = config.vqvae.sample_rate, config.vqvae.hops[-1]
        audio = read_prompt_audio(self.path, rate=rate, seconds=self.seconds, offset=self.offset_seconds)
        if self.seconds is None and self.longest is not None:
            audio = audio[: int(self.longest * rate)]
        return audio[: len(audio) // hop * hop]


@dataclass(frozen=True, slots=True)
class Prompt:
    """An excerpt whose codes have keys, one a level: the hash of the sound and of the VQ-VAE that reads it."""

    excerpt: Excerpt
    causes: tuple[dict[str, Any], ...]
    take: Take

    @property
    def keys(self) -> tuple[str, ...]:
        """The key of each level's codes, bottom level first."""
        return tuple(digest(cause) for cause in self.causes)


def plan_prompt(excerpt: Excerpt, config: JukeboxConfig, vqvae_sha256: str) -> Prompt:
    """Returns the prompt that an excerpt makes; nothing is encoded.

    Raises:
        AudioError: the file is missing, not audio, or shorter than asked.
    """
    audio = excerpt.read(config)
    heard = digest_bytes(audio.tobytes())
    causes = tuple(
        {"schema": 1, "family": "jukebox", "prompt": heard, "weights": vqvae_sha256, "level": level}
        for level in range(config.vqvae.levels)
    )
    lengths = (len(audio) // hop for hop in config.vqvae.hops)
    take = tuple(Track().extend(digest(cause), length) for cause, length in zip(causes, lengths, strict=True))
    return Prompt(excerpt, causes, take)
