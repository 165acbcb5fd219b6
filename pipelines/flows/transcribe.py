"""The flow of `jukebox transcribe`: recordings to files of notes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jukebox_core.models.stored import to_stored
from pipelines.execution import transcription
from pipelines.orchestration.flow_runs import how_of, run_flow
from pipelines.orchestration.signals import stopping_on_signals
from pipelines.orchestration.stage_calls import PLAIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.orchestration.stage_calls import Stages
    from pipelines.settings.transcribe import TranscribeSettings
    from stages.sound.transcribe import Recording


def transcribe_flow(settings: TranscribeSettings, recordings: Sequence[Recording]) -> list[str]:
    """Transcribes recordings, recorded as a flow run of Prefect's; returns the path of the first file of each."""

    def work(stages: Stages) -> list[str]:
        with stopping_on_signals():
            return transcribe_files(settings, recordings, stages)

    how = how_of(settings.runner)
    return run_flow("transcribe", to_stored(settings), PLAIN, work, how, settings.storage.root)


def transcribe_files(settings: TranscribeSettings, recordings: Sequence[Recording], stages: Stages) -> list[str]:
    """Writes the notes of each recording; errors and result as of `pipelines.execution.transcription.transcribe`."""
    return transcription.transcribe(settings, recordings, stages)
