"""The outputs of a run for users: audio of every level, codes, pictures, the report and a finished manifest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jukebox_core.base.hashing import digest_file
from jukebox_core.base.structuring import to_plain
from pipelines.runs.audio_files import sounds
from pipelines.runs.folder import now
from stages.sound.encode import codes_header
from stages.sound.report import Report, Song, Timing, Track

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jukebox_core.tokens.graph import Take
    from pipelines.orchestration.stage_calls import Stages
    from pipelines.runs.folder import RunFolder
    from pipelines.runs.timings import Stopwatch
    from pipelines.settings.common import OutputSettings
    from pipelines.settings.generate import Settings
    from stages.resident import CodecSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOutputs:
    """Writes the outputs of one run, reusing files that an earlier invocation wrote from the same tokens."""

    run: RunFolder
    codec: CodecSpec
    store: str  # URI of the token store
    output: OutputSettings
    heading: Mapping[str, Any]  # of the report: title, model, whether it is trained, licence, settings
    songs: tuple[Mapping[str, str], ...]  # conditioning of each song as text

    @classmethod
    def of(cls, settings: Settings, run: RunFolder, codec: CodecSpec) -> RunOutputs:
        """Returns the outputs of the run that `settings` make."""
        model, describe = settings.model, settings.family.describe
        return cls(
            run=run,
            codec=codec,
            store=settings.storage.tokens,
            output=settings.output,
            heading={
                "title": run.name,
                "model": model.name,
                "trained": model.trained,
                "licence": model.files.licence,
                "settings": to_plain(settings),
            },
            songs=tuple(describe(settings.song_of(sample)) for sample in range(settings.sampling.n_samples)),
        )

    def write(self, takes: Sequence[Take], stages: Stages, watch: Stopwatch) -> None:
        """Writes everything that a run leaves, and marks its manifest as finished."""
        with watch.time("decode"):
            files = self._write_audio(takes, stages)
        with watch.time("codes"):
            codes = self._write_codes(takes, stages)
        self.run.update(audio=files, codes=codes)
        if self.output.report:
            with watch.time("draw"):
                self._draw(files, stages)
            stages.write_report(self.run.path, self._report(files, watch))
        self.run.update(status="finished", finished=now())

    def _write_audio(self, takes: Sequence[Take], stages: Stages) -> list[dict[str, Any]]:
        """Decodes every level of every song; returns a record for each file, as the manifest keeps it."""
        records = []
        for sound in sounds(takes, self.codec.weights.identity, self.output.format):
            record = sound.record(self.run)
            if record is None:
                path = self.run.path / sound.path
                made = stages.decode_track(self.codec, sound.level, sound.track, self.store, path)
                record = {"path": sound.path, "level": sound.level, "sample": sound.sample, "tokens": sound.tokens}
                record |= {"sha256": made.sha256, "seconds": made.seconds, "peak": made.peak, "rms": made.rms}
            records.append(record)
        return records

    def _write_codes(self, takes: Sequence[Take], stages: Stages) -> list[dict[str, Any]]:
        records = []
        for sample, take in enumerate(takes):
            path = self.run.path / "codes" / f"sample_{sample}.npz"
            stages.write_song_codes(take, self.store, codes_header(self.codec), path)
            records.append({"path": f"codes/{path.name}", "sample": sample, "sha256": digest_file(path)})
        return records

    def _draw(self, files: Sequence[Mapping[str, Any]], stages: Stages) -> None:
        for record in files:
            pictures = [self.run.path / _picture(record, kind) for kind in ("waveform", "spectrogram")]
            sound = self.run.path / record["path"]
            if not all(p.is_file() and p.stat().st_mtime >= sound.stat().st_mtime for p in pictures):
                stages.draw_sound(sound, self.codec.config.sample_rate, *pictures)

    def _report(self, files: Sequence[Mapping[str, Any]], watch: Stopwatch) -> Report:
        songs = [
            Song(
                index=sample,
                artist=described.get("artist", ""),
                genre=described.get("genre", ""),
                lyrics=described.get("lyrics", ""),
                tracks=tuple(_track(record) for record in files if record["sample"] == sample),
            )
            for sample, described in enumerate(self.songs)
        ]
        return Report(**self.heading, songs=tuple(songs), timings=tuple(map(_timing, watch.timings)))


def _track(record: Mapping[str, Any]) -> Track:
    return Track(
        level=record["level"],
        audio=record["path"],
        seconds=record["seconds"],
        peak=record["peak"],
        rms=record["rms"],
        waveform=_picture(record, "waveform"),
        spectrogram=_picture(record, "spectrogram"),
    )


def _timing(timing: Mapping[str, Any]) -> Timing:
    return Timing(
        stage=timing["stage"],
        seconds=timing["seconds"],
        level=timing.get("level"),
        tokens=timing.get("tokens"),
        windows_sampled=timing.get("windows"),
        windows_reused=timing.get("reused"),
    )


def _picture(record: Mapping[str, Any], kind: str) -> str:
    return f"pictures/level_{record['level']}_sample_{record['sample']}_{kind}.png"
