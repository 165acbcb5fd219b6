"""Transcription of many recordings: checks before anything is loaded, then recordings on workers."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from jukebox_core.audio.files import audio_seconds
from jukebox_core.base.paths import output_folder, user_path
from jukebox_core.base.text import format_bytes
from jukebox_core.errors import AudioError, ConfigError
from jukebox_core.family import open_transcribing
from jukebox_core.notes.soundfont import check_soundfont
from jukebox_core.runtime.device import kind_and_memory, resolve_device
from pipelines.execution.inputs import check_local_weights
from pipelines.execution.recordings import files_of, run_of, usable
from pipelines.execution.runner import check_runner, open_workers, run_units
from pipelines.licence_prompt import ask
from stages.resident import TranscriberSpec
from stages.sampling.shard import WorkerContext
from stages.sound.transcribe import Recording
from stages.sound.transcription_unit import TranscriptionJob, TranscriptionNode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jukebox_core.sampling.schedule import Schedule, Unit
    from pipelines.orchestration.stage_calls import Stages
    from pipelines.settings.transcribe import TranscribeSettings
    from stages.sound.transcription_unit import Transcribed

log = logging.getLogger("jukebox")

_BLOCKS = 16  # that a worker transcribes at once of a long recording; decoding its audio for each costs seconds


def check(settings: TranscribeSettings) -> list[Recording]:
    """Returns the recordings to transcribe, after every check that needs no network.

    Those of a folder that cannot be read are left out, with a warning.

    Raises:
        JukeboxError: the first check that fails.
    """
    check_runner(settings.runner)
    output_folder(settings.folder, [name for name in settings.audio if run_of(name, settings.storage.root) is None])
    shortest = open_transcribing(settings.model.family).shortest_seconds
    found = find_recordings(settings)
    lengths = usable([(each.audio, each.named) for each in found], lambda path: _seconds(path, shortest))
    recordings = [each for each in found if each.audio in lengths]
    _check_machine(settings)
    ask(settings.model.files, settings.weights)
    check_local_weights(settings.model, settings.weights, settings.model.opened.roles(settings.model.config))
    return recordings


def _seconds(path: str, shortest: float) -> float:
    seconds = audio_seconds(Path(path))
    if seconds < shortest:
        raise AudioError(f"{path} lasts {1000 * seconds:.1f} ms; give at least {1000 * shortest:g} ms")
    return seconds


def find_recordings(settings: TranscribeSettings) -> list[Recording]:
    """Returns the recordings that ``audio`` names, with the files to write for each.

    Of a folder, all audio files in it and below, written to the same subfolders; of a run, its songs at the finest
    level that they have, written to a subfolder with the run's name.

    Raises:
        ConfigError: a folder holds no audio, a run no songs, two recordings would be written to one file, or the
            soundfont cannot be played; or one has a name from which that of its notes cannot be made. Of a folder,
            such a one is left out, with a warning, unless there is no other.
        DamagedRunError: a run is damaged.
    """
    folder = user_path(settings.folder)
    soundfont = None if settings.soundfont is None else str(check_soundfont(settings.soundfont))
    found: dict[Path, Recording] = {}
    for name in settings.audio:
        for file, place, named in files_of(name, settings.storage.root):
            try:
                target = user_path((folder / place).with_suffix(".json"))
            except ConfigError as error:
                if named:
                    raise
                log.warning("%s is left out: %s", file, error)
                continue
            if target in found:
                raise ConfigError(f"{found[target].audio} and {file} would both become {target}; rename one")
            found[target] = Recording(
                audio=str(file), target=str(target), midi=settings.midi, csv=settings.csv, lines=settings.lines,
                report=settings.report, named=named,
                soundfont=soundfont,
            )  # fmt: skip
    if not found:
        raise ConfigError("no recording has a name from which that of its notes could be made; rename one")
    return list(found.values())


def _check_machine(settings: TranscribeSettings) -> None:
    family, config = open_transcribing(settings.model.family), settings.model.config
    device = resolve_device(settings.hardware.device)
    family.check_hardware(settings.hardware, device.type)
    needed = family.transcription_bytes(config, settings.transcription, settings.hardware.dtype)
    _, total = kind_and_memory(device)
    if needed > total:
        raise ConfigError(
            f"transcribing in this way needs about {format_bytes(needed)} of memory, but {device} has "
            f"{format_bytes(total)}; lower transcription.batch_size, or choose a smaller model"
        )


def transcribe(settings: TranscribeSettings, recordings: Sequence[Recording], stages: Stages) -> list[str]:
    """Writes the notes of recordings; returns the path of the first file of each that could be used.

    Raises:
        AudioError: not one recording could be used, or one that the user named could not.
        ConfigError: a file or folder is in the way.
        StoppedError: the process was asked to stop; finished recordings and blocks are kept.
    """
    model = settings.model
    [role] = model.opened.roles(model.config)
    weights = stages.fetch_weights(model, settings.weights, roles=(role,))[role]
    spec = TranscriberSpec(family=model.family, config=model.config, weights=weights, hardware=settings.hardware)
    job = TranscriptionJob(spec=spec, role=role, settings=settings.transcription, store=settings.storage.tokens)
    left = stages.check_transcripts(spec, recordings, settings.transcription)
    log.info("%d of %d recordings are finished", len(recordings) - len(left), len(recordings))
    written = {each.target: str(each.paths[0]) for each in recordings}
    refused: list[str] = []

    def sealed(_: Unit, results: Sequence[Transcribed]) -> None:
        for result in results:
            if result.error is not None and written.pop(result.node.recording.target, None) is not None:
                refused.append(result.error)
            elif result.paths:
                log.info("%s -> %s", result.node.recording.audio, ", ".join(result.paths))

    context = WorkerContext(
        model=model,
        weights=settings.weights,
        devices=settings.runner.devices,
        remote=settings.runner.kind != "threads",
        resident_networks=1,
    )
    # Workers hand what they are given to the stage that is called like this.
    as_units = cast("Stages", _TranscribingStages(stages.transcribe_unit))
    with open_workers(settings.runner, as_units, cast("Any", job), context) as workers:
        units = TranscriptionUnits(left, 0 if settings.runner.in_place else _block_seconds(job))
        run_units(cast("Schedule", units), workers, on_submit=lambda _: None, on_sealed=cast("Any", sealed))
    if not written:
        raise AudioError(f"none of {len(recordings)} recordings could be used; the first: {refused[0]}")
    return list(written.values())


def _block_seconds(job: TranscriptionJob) -> float:
    """Returns the seconds of a block; 0 if blocks depend on each other."""
    spec = job.spec
    samples = open_transcribing(spec.family).block_samples(spec.config, job.settings)
    return (samples or 0) / float(spec.config.sample_rate)


@dataclass(frozen=True, slots=True)
class _TranscribingStages:
    sample_unit: Any


@dataclass(frozen=True, slots=True, eq=False)
class TranscriptionUnit:
    """One node of one task; a `Unit` to the workers."""

    nodes: tuple[TranscriptionNode]


class TranscriptionUnits:
    """Recordings in order; the schedule of a transcription.

    A long recording whose blocks do not depend on each other is several units of blocks, which workers compute in
    parallel, and then one that writes the files. One whose notes are written as lines is a single unit.

    Args:
        recordings: those that are not finished.
        block_seconds: of a block; 0: every recording is one unit.
    """

    def __init__(self, recordings: Sequence[Recording], block_seconds: float = 0.0) -> None:
        self._ready: deque[TranscriptionUnit] = deque()
        self._missing: dict[str, int] = {}  # units of blocks that are not finished, by target
        for recording in recordings:
            nodes = _block_nodes(recording, block_seconds)
            self._missing[recording.target] = len(nodes)
            self._ready += [TranscriptionUnit((node,)) for node in nodes or [TranscriptionNode(recording=recording)]]

    def take(self) -> TranscriptionUnit | None:
        """Returns a unit that nobody works on; None if none is ready."""
        return self._ready.popleft() if self._ready else None

    def finish(self, unit: TranscriptionUnit) -> None:
        """Makes the unit that writes a recording's files ready when the last of its blocks is stored."""
        [node] = unit.nodes
        if node.blocks is None:
            return
        self._missing[node.recording.target] -= 1
        if not self._missing[node.recording.target]:
            self._ready.appendleft(TranscriptionUnit((TranscriptionNode(recording=node.recording),)))


def _block_nodes(recording: Recording, block_seconds: float) -> list[TranscriptionNode]:
    if not block_seconds or recording.lines:
        return []
    try:
        blocks = int(audio_seconds(Path(recording.audio)) / block_seconds) + 1
    except AudioError:  # since it was checked; the unit says so
        return []
    if blocks <= _BLOCKS:
        return []
    return [
        TranscriptionNode(recording=recording, blocks=(first, min(first + _BLOCKS, blocks)))
        for first in range(0, blocks, _BLOCKS)
    ]
