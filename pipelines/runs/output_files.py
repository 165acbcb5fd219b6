"""The files that a run leaves, and which of them exist already. Imports neither torch nor Prefect.

A file exists if it has the digest that the manifest recorded when it was written; any other one is written again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from jukebox_core.base.hashing import digest, digest_file
from jukebox_core.base.records import clear_place, is_regular, set_aside
from jukebox_core.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from jukebox_core.tokens.graph import Take, Track
    from pipelines.settings.common import OutputSettings

REPORT = "report.html"
_KINDS = ("waveform", "spectrogram")
_SOUND_ENTRIES = ("path", "level", "sample", "tokens", "sha256", "seconds", "peak", "rms")
_ENDS = {".png": b"IEND\xaeB`\x82", ".html": b"</html>"}  # of whole files, where earlier versions recorded no digest


@dataclass(frozen=True, slots=True)
class Sound:
    """One level of one song as an audio file; the path is relative to the run's folder."""

    level: int
    sample: int
    track: Track
    path: str
    tokens: str  # digest of the track and of the VQ-VAE that decodes it

    def record(self, folder: Path, manifest: Mapping[str, Any]) -> dict[str, Any] | None:
        """Returns the file's record in the manifest if it exists and was decoded from the same tokens, else None."""
        for record in manifest.get("audio", []):
            if record["path"] == self.path and record.get("tokens") == self.tokens:
                whole = all(record.get(entry) is not None for entry in _SOUND_ENTRIES)
                return record if whole and is_intact(folder, record) else None
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


def pictures(sound: Mapping[str, Any]) -> list[str]:
    """Returns the paths of the waveform and the spectrogram of an audio file, given its record."""
    return [f"pictures/level_{sound['level']}_sample_{sound['sample']}_{kind}.png" for kind in _KINDS]


def codes_path(sample: int) -> str:
    """Returns the path of a song's codes file."""
    return f"codes/sample_{sample}.npz"


def recorded(folder: Path, path: str, **more: object) -> dict[str, Any]:
    """Returns the record of a file that was just written."""
    return {"path": path, **more, "sha256": digest_file(folder / path)}


def are_complete(
    folder: Path, manifest: Mapping[str, Any], takes: Sequence[Take], codec: str, output: OutputSettings
) -> bool:
    """Whether every file of a run exists with its content: audio, codes, and pictures and report if asked for."""
    audio = [sound.record(folder, manifest) for sound in sounds(takes, codec, output.format)]
    found = [record for record in audio if record is not None]
    if len(found) < len(audio) or not _has(
        folder, manifest.get("codes", []), [codes_path(sample) for sample in range(len(takes))]
    ):
        return False
    if not output.report:
        return True
    if "report" not in manifest:  # an earlier version wrote it
        paths = [REPORT, *(path for record in found for path in pictures(record))]
        return all(_has_end(folder / path) for path in paths)
    wanted = [path for record in found for path in intact_pictures(folder, manifest, record)]
    return len(wanted) == len(_KINDS) * len(found) and is_intact(folder, manifest["report"])


def intact_pictures(folder: Path, manifest: Mapping[str, Any], sound: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the records of the pictures of an audio file that exist and show it as it is."""
    return [
        record
        for record in manifest.get("pictures", [])
        if record["path"] in pictures(sound) and record.get("sound") == sound["sha256"] and is_intact(folder, record)
    ]


def is_intact(folder: Path, record: Mapping[str, Any]) -> bool:
    """Whether a recorded file is in the run's folder with the content that it had."""
    path = folder / record["path"]
    return is_regular(path) and digest_file(path) == record.get("sha256")


def make_room(folder: Path, path: str) -> None:
    """Renames what is in the way of a file of a run: a folder or a pipe in its place, or a file in that of its folder.

    Raises:
        RunError: the run's folder was removed.
    """
    if not folder.is_dir():
        raise RunError(f"{folder} was removed while its run went on; what was sampled is stored: run the command again")
    at = folder
    *parents, name = PurePosixPath(path).parts
    for part in parents:
        at = at / part
        if os.path.lexists(at) and (at.is_symlink() or not at.is_dir()):
            set_aside(at)
    clear_place(at / name)


def _has(folder: Path, records: Iterable[Mapping[str, Any]], paths: Iterable[str]) -> bool:
    by_path = {record["path"]: record for record in records}
    return all(path in by_path and is_intact(folder, by_path[path]) for path in paths)


def _has_end(path: Path) -> bool:
    return is_regular(path) and path.read_bytes().rstrip().endswith(_ENDS[path.suffix])
