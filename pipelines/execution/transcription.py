"""Checks of `transcribe` before its flow: recordings, targets, weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jukebox_core.audio.files import audio_seconds
from jukebox_core.base.paths import output_folder, user_path
from jukebox_core.base.text import format_bytes
from jukebox_core.datasets.songs import AUDIO_SUFFIXES
from jukebox_core.errors import ConfigError
from jukebox_core.family import open_transcribing
from jukebox_core.runtime.device import kind_and_memory, resolve_device
from pipelines.execution.inputs import check_local_weights
from pipelines.licence_prompt import ask
from stages.sound.transcribe import Recording

if TYPE_CHECKING:
    from pipelines.settings.transcribe import TranscribeSettings


def check(settings: TranscribeSettings) -> list[Recording]:
    """Returns the recordings to transcribe, after every check that needs no network.

    Raises:
        JukeboxError: the first check that fails.
    """
    output_folder(settings.folder)
    recordings = find_recordings(settings)
    for recording in recordings:
        audio_seconds(Path(recording.audio))
    _check_memory(settings)
    ask(settings.model.files, settings.weights)
    check_local_weights(settings.model, settings.weights, settings.model.opened.roles(settings.model.config))
    return recordings


def find_recordings(settings: TranscribeSettings) -> list[Recording]:
    """Returns the recordings that ``audio`` names, with the files to write for each.

    Of a folder, all audio files in it and below, written to the same subfolders; of a run, its finished songs.

    Raises:
        ConfigError: a folder holds no audio, two recordings would be written to one file, or one's name would be too
            long.
    """
    folder = user_path(settings.folder)
    found: dict[Path, Recording] = {}
    for name in settings.audio:
        given = user_path(name)
        root = given / "audio" if (given / "manifest.json").is_file() else given
        files = _audio_below(root) if root.is_dir() else [given]
        for file in files:
            relative = (file.relative_to(root) if root.is_dir() else Path(file.name)).with_suffix(".json")
            target = user_path(folder / relative)
            if target in found:
                raise ConfigError(f"{found[target].audio} and {file} would both become {target}; rename one")
            found[target] = Recording(audio=str(file), target=str(target), midi=settings.midi, csv=settings.csv)
    return list(found.values())


def _check_memory(settings: TranscribeSettings) -> None:
    family, config = open_transcribing(settings.model.family), settings.model.config
    needed = family.transcription_bytes(config, settings.transcription, settings.hardware.dtype)
    device = resolve_device(settings.hardware.device)
    _, total = kind_and_memory(device)
    if needed > total:
        raise ConfigError(
            f"transcribing in this way needs about {format_bytes(needed)} of memory, but {device} has "
            f"{format_bytes(total)}; lower transcription.batch_size, or choose a smaller model"
        )


def _audio_below(root: Path) -> list[Path]:
    files = [
        path
        for path in sorted(root.rglob("*"))
        if path.suffix.lower() in AUDIO_SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") or part == "preview" for part in path.relative_to(root).parts)
    ]
    if not files:
        raise ConfigError(f"{root} holds no {', '.join(AUDIO_SUFFIXES)} file; name files, or a folder that has some")
    return files
