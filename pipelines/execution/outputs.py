"""What a run leaves for people: audio of every level, codes, pictures, the report and a finished manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jukebox_core.base.hashing import digest_file
from jukebox_core.base.structuring import to_plain
from pipelines.orchestration import tasks
from pipelines.runs.audio_files import sounds
from pipelines.runs.folder import now
from stages.sampling.label import read_lyrics
from stages.sound.encode import about
from stages.sound.report import Report, Song, Timing, Track

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jukebox_core.tokens.graph import Take
    from pipelines.runs.folder import RunFolder
    from pipelines.runs.timings import Stopwatch
    from pipelines.settings.generate import Settings
    from stages.handles import FileHandle


def write_outputs(
    settings: Settings, run: RunFolder, takes: Sequence[Take], weights: Mapping[str, FileHandle], watch: Stopwatch
) -> None:
    """Writes everything a run leaves, reusing files that an earlier invocation wrote from the same tokens."""
    with watch.time("decode"):
        files = _write_audio(settings, run, takes, weights)
    with watch.time("codes"):
        codes = _write_codes(settings, run, takes, weights)
    run.update(audio=files, codes=codes)
    if settings.output.report:
        with watch.time("draw"):
            _draw(settings, run, files)
        tasks.write_report(run.path, _report(settings, run, files, watch))
    run.update(status="finished", finished=now())


def _write_audio(
    settings: Settings, run: RunFolder, takes: Sequence[Take], weights: Mapping[str, FileHandle]
) -> list[dict[str, Any]]:
    """Decodes every level of every song; returns a record for each file, as the manifest keeps it."""
    records = []
    for sound in sounds(takes, weights["vqvae"].identity, settings.output.format):
        record = sound.record(run)
        if record is None:
            made = tasks.decode_track(
                settings.model.config,
                weights["vqvae"],
                settings.hardware,
                sound.level,
                sound.track,
                settings.storage.tokens,
                run.path / sound.path,
            )
            record = {"path": sound.path, "level": sound.level, "sample": sound.sample, "tokens": sound.tokens}
            record |= made.model_dump(include={"sha256", "seconds", "peak", "rms"})
        records.append(record)
    return records


def _write_codes(
    settings: Settings, run: RunFolder, takes: Sequence[Take], weights: Mapping[str, FileHandle]
) -> list[dict[str, Any]]:
    described = about(settings.model.config, weights["vqvae"].identity)
    records = []
    for sample, take in enumerate(takes):
        path = run.path / "codes" / f"sample_{sample}.npz"
        tasks.write_song_codes(take, settings.storage.tokens, described, path)
        records.append({"path": f"codes/{path.name}", "sample": sample, "sha256": digest_file(path)})
    return records


def _picture(record: Mapping[str, Any], kind: str) -> str:
    return f"pictures/level_{record['level']}_sample_{record['sample']}_{kind}.png"


def _draw(settings: Settings, run: RunFolder, files: Sequence[Mapping[str, Any]]) -> None:
    for record in files:
        waveform, spectrogram = (run.path / _picture(record, kind) for kind in ("waveform", "spectrogram"))
        sound = run.path / record["path"]
        if not all(p.is_file() and p.stat().st_mtime >= sound.stat().st_mtime for p in (waveform, spectrogram)):
            tasks.draw_sound(sound, settings.model.vqvae.sample_rate, waveform, spectrogram)


def _report(settings: Settings, run: RunFolder, files: Sequence[Mapping[str, Any]], watch: Stopwatch) -> Report:
    songs = []
    for sample in range(settings.sampling.n_samples):
        song = settings.song_of(sample)
        tracks = tuple(
            Track(
                level=record["level"],
                audio=record["path"],
                seconds=record["seconds"],
                peak=record["peak"],
                rms=record["rms"],
                waveform=_picture(record, "waveform"),
                spectrogram=_picture(record, "spectrogram"),
            )
            for record in files
            if record["sample"] == sample
        )
        lyrics = read_lyrics(song.lyrics, song.lyrics_file)
        songs.append(Song(index=sample, artist=song.artist, genre=song.genre, lyrics=lyrics, tracks=tracks))
    return Report(
        title=run.name,
        model=settings.model.name,
        trained=settings.model.trained,
        licence=settings.model.files.licence,
        settings=to_plain(settings),
        songs=tuple(songs),
        timings=tuple(
            Timing(
                stage=timing["stage"],
                seconds=timing["seconds"],
                level=timing.get("level"),
                tokens=timing.get("tokens"),
                windows_sampled=timing.get("windows"),
                windows_reused=timing.get("reused"),
            )
            for timing in watch.timings
        ),
    )
