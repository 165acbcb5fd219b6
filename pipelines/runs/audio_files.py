"""The audio files of a run, and which of them exist already. Imports neither torch nor Prefect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jukebox_core.base.hashing import digest, digest_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jukebox_core.tokens.graph import Take, Track
    from pipelines.runs.folder import RunFolder


@dataclass(frozen=True, slots=True)
class Sound:
    """One level of one song as an audio file; the path is relative to the run's folder."""

    level: int
    sample: int
    track: Track
    path: str
    tokens: str  # digest of the track and of the VQ-VAE that decodes it

    def record(self, run: RunFolder) -> dict[str, Any] | None:
        """Returns the file's record in the manifest if it exists and was decoded from the same tokens, else None."""
        path = run.path / self.path
        for record in run.manifest().get("audio", []):
            if record["path"] == self.path and record["tokens"] == self.tokens:
                return record if path.is_file() and digest_file(path) == record["sha256"] else None
        return None


def sounds(takes: Sequence[Take], vqvae_sha256: str, suffix: str) -> list[Sound]:
    """Returns the audio files of a run: every level of every song that has tokens."""
    return [
        Sound(
            level=level,
            sample=sample,
            track=track,
            path=f"audio/level_{level}/sample_{sample}.{suffix}",
            tokens=digest([vqvae_sha256, list(track)]),
        )
        for sample, take in enumerate(takes)
        for level, track in enumerate(take)
        if len(track)
    ]
