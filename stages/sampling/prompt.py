"""Prompts: the excerpt of a recording that a song starts with, and the keys of its codes. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jukebox_core.base.hashing import digest, digest_bytes
from jukebox_core.composer.builtin import read_prompt_audio
from jukebox_core.errors import AudioError
from jukebox_core.tokens.graph import Take, Track

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from jukebox_core.family import ModelConfig


class Recording(NamedTuple):
    """Length and digest of an excerpt's audio."""

    samples: int  # at the model's rate, in whole top-level tokens
    sha256: str  # of the float32 samples


@dataclass(frozen=True, kw_only=True, slots=True)
class Excerpt:
    """A part of an audio file; lengths in seconds."""

    path: str
    seconds: float | None  # None: to the end
    offset_seconds: float = 0.0
    longest: float | None = None  # maximum length if `seconds` is None
    padded: bool = False  # with silence to whole top-level tokens; otherwise it is cut to these

    def read(self, config: ModelConfig) -> NDArray[np.float32]:
        """Returns the audio, float32 [time], at the model's rate, cut or padded to whole top-level tokens.

        Raises:
            AudioError: the file is missing, not audio, or shorter than requested.
        """
        rate, hop = config.sample_rate, config.hops[-1]
        audio = read_prompt_audio(self.path, rate=rate, seconds=self.seconds, offset=self.offset_seconds)
        if self.seconds is None and self.longest is not None:
            audio = audio[: int(self.longest * rate)]
        if self.padded:
            return np.pad(audio, (0, -len(audio) % hop))
        return audio[: len(audio) // hop * hop]

    def measure(self, config: ModelConfig) -> Recording:
        """Returns the length and the digest of the audio.

        Raises:
            AudioError: as `read`, or the audio is shorter than one top-level token.
        """
        audio = self.read(config)
        if not len(audio):
            raise AudioError(
                f"{self.path} gives less than one top-level token ({config.seconds(config.top, 1):.4f} s); "
                "choose a longer file or ask for more of it"
            )
        return Recording(len(audio), digest_bytes(audio.tobytes()))


@dataclass(frozen=True, slots=True)
class Prompt:
    """An excerpt with the keys of its codes, one a level: the hash of the audio's digest and the codec's."""

    excerpt: Excerpt
    causes: tuple[dict[str, Any], ...]
    take: Take

    @property
    def keys(self) -> tuple[str, ...]:
        """The key of each level's codes, bottom level first."""
        return tuple(digest(cause) for cause in self.causes)

    def check(self, audio: NDArray[np.float32]) -> None:
        """Checks that `audio`, float32 [time], as `Excerpt.read` returned it, is what the prompt was planned with.

        Raises:
            AudioError: the file was changed since: its codes would be stored under the key of others.
        """
        if any(cause["prompt"] != digest_bytes(audio.tobytes()) for cause in self.causes):
            raise AudioError(
                f"prompt {self.excerpt.path} was changed since the run was planned; bring the file back, or run the "
                "command again"
            )


def plan_prompt(
    excerpt: Excerpt, recording: Recording, family: str, lengths: Sequence[int], codec_sha256: str
) -> Prompt:
    """Returns the prompt of an excerpt, without encoding it.

    Args:
        excerpt: the excerpt.
        recording: length and digest of its audio.
        family: of the model.
        lengths: how many tokens of each level the codec makes of it.
        codec_sha256: identity of the codec.
    """
    causes = tuple(
        {"schema": 1, "family": family, "prompt": recording.sha256, "weights": codec_sha256, "level": level}
        for level in range(len(lengths))
    )
    take = tuple(Track().extend(digest(cause), length) for cause, length in zip(causes, lengths, strict=True))
    return Prompt(excerpt, causes, take)
