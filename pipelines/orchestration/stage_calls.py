"""The stages as flows call them: plain functions, or the same functions as Prefect tasks.

A flow receives a `Stages` and calls ``stages.fetch_weights(...)``, so that the flow itself does not decide how a stage
is run: `pipelines.orchestration.flow_runs` does. `PLAIN` calls the functions directly: for programs, notebooks, tests
and worker processes. Imports no Prefect.
"""

from __future__ import annotations

from stages import export, fetch
from stages.features import extract
from stages.sampling import shard
from stages.sound import align, decode, encode, render, report, transcribe, transcription_unit
from stages.training import dataset


class Stages:
    """The stages of songs, codes, datasets and features; each has the signature and the errors of its function."""

    fetch_vocabularies = staticmethod(fetch.fetch_vocabularies)
    fetch_weights = staticmethod(fetch.fetch_checked_weights)
    encode_prompt = staticmethod(encode.encode_prompt)
    encode_file = staticmethod(encode.encode_file)
    check_transcripts = staticmethod(transcribe.check_transcripts)
    transcribe_unit = staticmethod(transcription_unit.transcribe_unit)
    sample_unit = staticmethod(shard.sample_unit)
    decode_track = staticmethod(decode.decode_track)
    decode_file = staticmethod(decode.decode_file)
    align_song = staticmethod(align.align_song)
    write_song_codes = staticmethod(render.write_song_codes)
    draw_sound = staticmethod(render.draw_sound)
    draw_grid = staticmethod(render.draw_grid)
    write_report = staticmethod(report.write_report)
    find_songs = staticmethod(dataset.find_songs)
    check_labels = staticmethod(dataset.check_labels)
    check_songs = staticmethod(dataset.check_songs)
    encode_songs = staticmethod(dataset.encode_songs)
    extract_features = staticmethod(extract.extract_features)
    export_graph = staticmethod(export.export_graph)

    @classmethod
    def names(cls) -> list[str]:
        """Returns the names of all stages, those of the class it extends first."""
        kinds = reversed(cls.__mro__)
        return [name for kind in kinds for name, value in vars(kind).items() if isinstance(value, staticmethod)]


PLAIN = Stages()

_SHOWN = {
    "sample_unit": "sample window",
    "extract_features": "features",
    "transcribe_unit": "transcribe",
    "align_song": "align",
    "write_song_codes": "write codes",
    "draw_sound": "draw",
    "draw_grid": "draw codes",
    "write_report": "report",
}


def shown_name(stage: str) -> str:
    """Returns the name of a stage on Prefect's pages."""
    return _SHOWN.get(stage, stage.replace("_", " "))
