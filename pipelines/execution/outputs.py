"""The outputs of a run for users: audio of every level, codes, pictures, the report and a finished manifest."""

from __future__ import annotations

import contextvars
import logging
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from jukebox_core.audio.tags import song_tags
from jukebox_core.errors import JukeboxError
from jukebox_core.family import varies
from jukebox_core.models.stored import to_stored
from pipelines.execution.alignment import timed_texts
from pipelines.execution.originals import of_song, of_variations, original_in
from pipelines.runs.config_file import settings_in
from pipelines.runs.folder import now
from pipelines.runs.output_files import REPORT, codes_path, intact_pictures, make_room, pictures, recorded, sounds
from stages.sound.encode import codes_header
from stages.sound.report import Report, Song, Timing, Track

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jukebox_core.audio.files import Tag
    from jukebox_core.tokens.graph import Take
    from pipelines.execution.alignment import RunAlignment
    from pipelines.execution.originals import Originals
    from pipelines.orchestration.stage_calls import Stages
    from pipelines.runs.folder import RunFolder
    from pipelines.runs.timings import Stopwatch
    from pipelines.settings.common import OutputSettings
    from pipelines.settings.generate import Settings
    from stages.resident import CodecSpec

log = logging.getLogger("jukebox")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOutputs:
    """Writes the outputs of one run, reusing files that an earlier invocation wrote from the same tokens."""

    run: RunFolder
    codec: CodecSpec
    store: str  # URI of the token store
    output: OutputSettings
    heading: Mapping[str, Any]  # of the report: title, model, whether it is trained, licence, settings
    songs: tuple[Mapping[str, str], ...]  # conditioning of each song as text
    alignment: RunAlignment | None = None  # of the words; None: not asked for
    originals: Originals | None = None  # the recordings that the songs vary; None: they vary none

    @classmethod
    def of(
        cls,
        settings: Settings,
        run: RunFolder,
        codec: CodecSpec,
        alignment: RunAlignment | None = None,
        originals: Originals | None = None,
    ) -> RunOutputs:
        """Returns the outputs of the run that `settings` make."""
        return cls(
            run=run,
            codec=codec,
            store=settings.storage.tokens,
            output=settings.output,
            heading=_heading(settings, run),
            songs=_songs(settings),
            alignment=alignment,
            originals=originals,
        )

    def write(self, takes: Sequence[Take], stages: Stages, watch: Stopwatch) -> None:
        """Writes everything that a run leaves, and marks its manifest as finished."""
        with _Pictures(self, stages) as pictures:
            with watch.time("decode"):
                files = self._write_audio(takes, stages, pictures)
            with watch.time("codes"):
                codes = self._write_codes(takes, stages)
            self.run.update(audio=files, codes=codes)
            if self.alignment is not None:
                with watch.time("align"):
                    self.alignment.write(self.run, stages)
            if self.output.report:
                with watch.time("draw"):
                    self.run.update(pictures=pictures.records())
                    if self.originals is not None:
                        self.originals.write(self.run, self.codec, stages)
                _write_report(self.run, self.heading, self.songs, stages)
        self.run.update(status="finished", finished=now())

    def _write_audio(self, takes: Sequence[Take], stages: Stages, pictures: _Pictures) -> list[dict[str, Any]]:
        """Decodes every level of every song; returns a record for each file, as the manifest keeps it."""
        records, manifest = [], self.run.current_manifest()
        known = {record["path"]: record for record in manifest.get("audio", [])}
        for sound in sounds(takes, self.codec.weights.identity, self.output.format):
            record = sound.record(self.run.path, manifest)
            if record is None:
                make_room(self.run.path, sound.path)
                path = self.run.path / sound.path
                tags = self._tags(sound.sample)
                made = stages.decode_track(self.codec, sound.level, sound.track, self.store, path, tags)
                record = {"path": sound.path, "level": sound.level, "sample": sound.sample, "tokens": sound.tokens}
                record |= {"sha256": made.sha256, "seconds": made.seconds, "peak": made.peak, "rms": made.rms}
                known[sound.path] = record
                self.run.update(audio=list(known.values()))  # a kill costs one file, not all
            records.append(record)
            pictures.draw(record)
        return records

    def _tags(self, sample: int) -> dict[Tag, str]:
        """Returns the tags of the sounds of one song."""
        heading, several = self.heading, f", sample {sample}" if len(self.songs) > 1 else ""
        title = f"{heading['title']}{several}"
        return song_tags(self.songs[sample], title=title, model=heading["model"], licence=heading["licence"])

    def _write_codes(self, takes: Sequence[Take], stages: Stages) -> list[dict[str, Any]]:
        records = []
        for sample, take in enumerate(takes):
            path = codes_path(sample)
            make_room(self.run.path, path)
            stages.write_song_codes(take, self.store, codes_header(self.codec), self.run.path / path)
            records.append(recorded(self.run.path, path, sample=sample))
        return records

    def draw(self, sound: Mapping[str, Any], stages: Stages, manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Draws the pictures of a sound that do not exist or show another; returns a record for each."""
        folder = self.run.path
        paths, intact = pictures(sound), intact_pictures(folder, manifest, sound)
        if len(intact) == len(paths):
            return intact
        for path in paths:
            make_room(folder, path)
        stages.draw_sound(folder / sound["path"], self.codec.config.sample_rate, *(folder / p for p in paths))
        return [recorded(folder, path, sound=sound["sha256"]) for path in paths]


class _Pictures:
    """Pictures of the sounds of a run, drawn by a thread while the next sounds are decoded."""

    def __init__(self, outputs: RunOutputs, stages: Stages) -> None:
        self._outputs, self._stages = outputs, stages
        self._before = outputs.run.current_manifest()
        self._known = {record["path"]: record for record in self._before.get("pictures", [])}
        self._drawn: list[Future[list[dict[str, Any]]]] = []
        self._thread = ThreadPoolExecutor(1, "pictures")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def draw(self, sound: Mapping[str, Any]) -> None:
        """Has the pictures of a sound drawn, if they are wanted, and notes in the manifest those that are there."""
        if not self._outputs.output.report:
            return
        context = contextvars.copy_context()
        self._drawn.append(self._thread.submit(context.run, self._outputs.draw, sound, self._stages, self._before))
        self._note()

    def records(self) -> list[dict[str, Any]]:
        """Waits for all pictures; returns a record for each, in the order of their sounds."""
        records: list[dict[str, Any]] = []
        for one in self._drawn:
            records += one.result()
            self._note()
        return records

    def _note(self) -> None:
        """Writes to the manifest what has been drawn since: a kill costs the pictures of one sound, not all."""
        done = {record["path"]: record for one in self._drawn if _is_drawn(one) for record in one.result()}
        if any(self._known.get(path) != record for path, record in done.items()):
            self._known |= done
            self._outputs.run.update(pictures=list(self._known.values()))


def _is_drawn(pictures: Future[list[dict[str, Any]]]) -> bool:
    return pictures.done() and not pictures.cancelled() and pictures.exception() is None


def renew_report(settings: Settings, run: RunFolder, stages: Stages) -> None:
    """Writes the report of a finished run again, if it has one: with words that were aligned since.

    Raises:
        RunError: a file that the report shows is missing.
    """
    manifest = run.manifest()
    if manifest.get("status") == "finished" and manifest.get("report"):
        _write_report(run, _heading(settings, run), _songs(settings), stages)


def retitle_report(run: RunFolder) -> None:
    """Writes the report of a finished run again after the run was renamed; a warning if that is not possible."""
    settings = settings_in(run.path)
    if settings is None:
        return
    from pipelines.orchestration.stage_calls import PLAIN

    try:
        renew_report(settings, run, PLAIN)
    except JukeboxError as error:  # its audio was removed, for example
        log.warning("the report still has the former name: %s", error)


def _heading(settings: Settings, run: RunFolder) -> dict[str, Any]:
    model = settings.model
    return {
        "title": run.name,
        "model": model.name,
        "trained": model.trained,
        "licence": model.files.licence,
        "settings": to_stored(settings),
        **({} if not varies(settings.family) else of_variations(settings)),
    }


def _songs(settings: Settings) -> tuple[Mapping[str, str], ...]:
    describe, samples = settings.family.describe, range(settings.sampling.n_samples)
    if varies(settings.family):
        return tuple(of_song(settings, sample) for sample in samples)
    return tuple(describe(settings.song_of(sample)) for sample in samples)


def _write_report(
    run: RunFolder, heading: Mapping[str, Any], described: Sequence[Mapping[str, str]], stages: Stages
) -> None:
    manifest = run.current_manifest()
    words = timed_texts(run.path, manifest)
    songs = [
        Song(
            index=sample,
            artist=song.get("artist", ""),
            genre=song.get("genre", ""),
            lyrics=song.get("lyrics", ""),
            tracks=tuple(_track(record) for record in manifest["audio"] if record["sample"] == sample),
            words=words.get(sample),
            original=original_in(manifest, sample),
        )
        for sample, song in enumerate(described)
    ]
    timings = tuple(map(_timing, manifest.get("timings", [])))
    make_room(run.path, REPORT)
    stages.write_report(run.path, Report(**heading, songs=tuple(songs), timings=timings))
    run.update(report=recorded(run.path, REPORT))


def _track(record: Mapping[str, Any]) -> Track:
    waveform, spectrogram = pictures(record)
    return Track(
        level=record["level"],
        audio=record["path"],
        seconds=record["seconds"],
        peak=record["peak"],
        rms=record["rms"],
        waveform=waveform,
        spectrogram=spectrogram,
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
