"""The outputs of a run for users: audio of every level, codes, pictures, the report and a finished manifest.

Each file is written atomically, and the manifest has its digest: a file is used again if it has that digest, and made
again otherwise. Runs of earlier versions have none of pictures and reports; there a file that is whole is enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jukebox_core.base.hashing import digest_file
from jukebox_core.base.structuring import to_plain
from jukebox_core.errors import RunError
from pipelines.runs.audio_files import sounds
from pipelines.runs.folder import now
from stages.sound.encode import codes_header
from stages.sound.report import Report, Song, Timing, Track

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from jukebox_core.tokens.graph import Take
    from pipelines.orchestration.stage_calls import Stages
    from pipelines.runs.folder import RunFolder
    from pipelines.runs.timings import Stopwatch
    from pipelines.settings.common import OutputSettings
    from pipelines.settings.generate import Settings
    from stages.resident import CodecSpec

_PICTURES = ("waveform", "spectrogram")
_REPORT = "report.html"
_END_OF_REPORT, _END_OF_PICTURE = b"</html>", b"IEND\xaeB`\x82"


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
            page = stages.write_report(self.run.path, self._report(files, watch))
            self.run.update(report={"path": page.name, "sha256": digest_file(page)})
        self.run.update(status="finished", finished=now())

    def _write_audio(self, takes: Sequence[Take], stages: Stages) -> list[dict[str, Any]]:
        """Decodes every level of every song; returns a record for each file, as the manifest keeps it."""
        records = []
        known = {record["path"]: record for record in self.run.manifest().get("audio", [])}
        for sound in sounds(takes, self.codec.weights.identity, self.output.format):
            record = sound.record(self.run)
            if record is None:
                path = self.run.path / sound.path
                made = stages.decode_track(self.codec, sound.level, sound.track, self.store, path)
                record = {"path": sound.path, "level": sound.level, "sample": sound.sample, "tokens": sound.tokens}
                record |= {"sha256": made.sha256, "seconds": made.seconds, "peak": made.peak, "rms": made.rms}
                known[sound.path] = record
                self.run.update(audio=list(known.values()))  # a kill costs one file, not all
            records.append(record)
        return records

    def _write_codes(self, takes: Sequence[Take], stages: Stages) -> list[dict[str, Any]]:
        records = []
        for sample, take in enumerate(takes):
            path = self.run.path / "codes" / f"sample_{sample}.npz"
            stages.write_song_codes(take, self.store, codes_header(self.codec), path)
            records.append({"path": f"codes/{path.name}", "sample": sample, "sha256": digest_file(path)})
        return records

    def _draw(self, files: Sequence[dict[str, Any]], stages: Stages) -> None:
        """Draws the pictures of each file that are not there, and notes their digests in its record."""
        for record in files:
            if "pictures" in record and not _missing_pictures(self.run, record):
                continue
            pictures = {kind: self.run.path / _picture(record, kind) for kind in _PICTURES}
            stages.draw_sound(self.run.path / record["path"], self.codec.config.sample_rate, *pictures.values())
            record["pictures"] = {kind: digest_file(path) for kind, path in pictures.items()}
            self.run.update(audio=files)

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


def missing_outputs(run: RunFolder, takes: Sequence[Take], codec_sha256: str, output: OutputSettings) -> list[str]:
    """Returns the outputs that a run lacks: files that do not exist, are damaged, or were made from other tokens.

    Args:
        run: the run.
        takes: its songs.
        codec_sha256: digest of the codec that decodes them.
        output: which outputs it is to have.

    Returns:
        Paths relative to the run's folder; none if the run is complete. Every file is hashed.
    """
    manifest, missing = run.manifest(), []
    for sound in sounds(takes, codec_sha256, output.format):
        record = sound.record(run)
        if record is None:
            missing.append(sound.path)
        elif output.report:
            missing += _missing_pictures(run, record)
    codes = {record["path"]: record["sha256"] for record in manifest.get("codes", [])}
    for sample in range(len(takes)):
        path = f"codes/sample_{sample}.npz"
        if path not in codes or not _is_whole(run.path / path, codes[path], b""):
            missing.append(path)
    sha256 = manifest.get("report", {}).get("sha256")
    if output.report and not _is_whole(run.path / _REPORT, sha256, _END_OF_REPORT):
        missing.append(_REPORT)
    return missing


def check_free_outputs(settings: Settings, folder: Path) -> None:
    """Checks that nothing but files is where a run in `folder` writes its files, before any is made.

    Raises:
        RunError: a folder or something else is in the place of a file, or a file in the place of a folder.
    """
    if not folder.is_dir():
        return
    levels, samples = range(len(settings.config.hops)), range(settings.sampling.n_samples)
    sounds = [(level, sample) for level in levels for sample in samples]
    files = ["run.log", _REPORT, *(f"codes/sample_{sample}.npz" for sample in samples)]
    files += [f"audio/level_{level}/sample_{sample}.{settings.output.format}" for level, sample in sounds]
    files += [_picture({"level": level, "sample": sample}, kind) for level, sample in sounds for kind in _PICTURES]
    for path in map(folder.joinpath, files):
        if path.exists() and not path.is_file():
            raise RunError(f"{path} is not a file, and the run writes one there; move it away")
    for path in {each for file in files for each in (folder / file).parents if each != folder}:
        if folder in path.parents and path.exists() and not path.is_dir():
            raise RunError(f"{path} is not a folder, and the run writes files there; move it away")


def _missing_pictures(run: RunFolder, record: Mapping[str, Any]) -> list[str]:
    digests, paths = record.get("pictures", {}), {kind: _picture(record, kind) for kind in _PICTURES}
    return [p for kind, p in paths.items() if not _is_whole(run.path / p, digests.get(kind), _END_OF_PICTURE)]


def _is_whole(path: Path, sha256: str | None, end: bytes) -> bool:
    """Whether a file has a digest; if that is not known, whether it is closed by `end`."""
    if not path.is_file():
        return False
    return path.read_bytes().rstrip().endswith(end) if sha256 is None else digest_file(path) == sha256


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
