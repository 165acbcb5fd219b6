"""The flow of `jukebox transcribe`: recordings to files of notes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from jukebox_core.models.stored import to_stored
from pipelines.orchestration.prefect_tasks import prefect_stages
from pipelines.orchestration.recorder import recorded
from pipelines.orchestration.signals import stopping_on_signals
from stages.resident import TranscriberSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.orchestration.stage_calls import Stages
    from pipelines.settings.transcribe import TranscribeSettings
    from stages.sound.transcribe import Recording

log = logging.getLogger("jukebox")


def transcribe_flow(settings: TranscribeSettings, recordings: Sequence[Recording]) -> list[str]:
    """Returns the paths of the files of notes, one for each of `recordings`: MIDI files, or JSON files without them."""

    def work() -> list[str]:
        with stopping_on_signals():
            return transcribe_files(settings, recordings, prefect_stages())

    return recorded("transcribe", to_stored(settings), work)


def transcribe_files(settings: TranscribeSettings, recordings: Sequence[Recording], stages: Stages) -> list[str]:
    """Writes the notes of each recording; returns the path of its first file."""
    model = settings.model
    [role] = model.opened.roles(model.config)
    weights = stages.fetch_weights(model, settings.weights, roles=(role,))[role]
    spec = TranscriberSpec(family=model.family, config=model.config, weights=weights, hardware=settings.hardware)
    stages.check_transcripts(spec, recordings, settings.transcription)
    written = []
    for recording in recordings:
        paths = stages.transcribe_file(spec, recording, settings.transcription, settings.storage.tokens)
        log.info("%s -> %s", recording.audio, paths[0])
        written.append(str(paths[0]))
    return written
