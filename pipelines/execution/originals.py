"""The recordings that the songs of a run vary, as its outputs show them: before, the mask, the codes of the result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jukebox_core.base.hashing import digest
from jukebox_core.family import open_varying
from pipelines.runs.output_files import is_intact, make_room, recorded
from stages.sound.render import Grid
from stages.sound.report import Original, Picture, Track

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jukebox_core.tokens import graph
    from pipelines.execution.planning import RunPlan
    from pipelines.orchestration.stage_calls import Stages
    from pipelines.runs.folder import RunFolder
    from pipelines.settings.generate import Settings
    from stages.resident import CodecSpec

_VERSION = 1  # of these files; raised by a change that alters them
_MASK, _RESULT = "The mask over the recording's codes: covered tokens are generated", "The codes of the variation"


@dataclass(frozen=True, kw_only=True, slots=True)
class Originals:
    """What is shown of each song besides its own sound."""

    settings: Settings
    before: tuple[graph.Take, ...]  # the codes of the recording of each song
    after: tuple[graph.Take, ...]

    @classmethod
    def of(cls, settings: Settings, plan: RunPlan) -> Originals:
        """Returns those of a planned run."""
        return cls(settings=settings, before=plan.start, after=tuple(plan.takes))

    def write(self, run: RunFolder, codec: CodecSpec, stages: Stages) -> None:
        """Writes the files that do not exist yet, and records those of each song in the manifest."""
        if not self.settings.output.report:
            return
        for sample in range(len(self.before)):
            if self._record(run.path, run.current_manifest(), sample) is None:
                self._write(run, codec, stages, sample)

    def is_complete(self, folder: Path, manifest: Mapping[str, Any]) -> bool:
        """Whether all files exist, made from these tokens."""
        samples = range(len(self.before)) if self.settings.output.report else ()
        return all(self._record(folder, manifest, sample) is not None for sample in samples)

    def _write(self, run: RunFolder, codec: CodecSpec, stages: Stages, sample: int) -> None:
        settings, store, first = self.settings, self.settings.storage.tokens, self._first(sample)
        paths = self._paths(sample)
        for path in paths:
            make_room(run.path, path)
        audio, waveform, spectrogram, mask, result = (run.path / path for path in paths)
        manifest = run.current_manifest()
        known = self._record(run.path, manifest, first) if first != sample else None
        if known is None:
            made = stages.decode_track(codec, 0, self.before[sample][0], store, audio)
            stages.draw_sound(audio, settings.config.sample_rate, waveform, spectrogram)
            sound = {"seconds": made.seconds, "peak": made.peak, "rms": made.rms}
        else:
            sound = {name: known[name] for name in ("seconds", "peak", "rms")}
        masked, drawn = self._grids(sample)
        stages.draw_grid(masked, store, mask)
        stages.draw_grid(drawn, store, result)
        files = [recorded(run.path, path) for path in paths]
        record = {"sample": sample, "causes": self._causes(sample), **sound, "files": files}
        others = [each for each in manifest.get("originals", []) if each["sample"] != sample]
        run.update(originals=sorted([*others, record], key=lambda each: each["sample"]))

    def _grids(self, sample: int) -> tuple[Grid, Grid]:
        """Returns the pictures of the recording under its mask, and of the result."""
        settings, before, after = self.settings, self.before[sample], self.after[sample]
        config = settings.config
        generated = open_varying(settings.family.name).song_mask(settings, sample, len(before[0]))
        level = next(level for level, track in enumerate(after) if len(track))
        steps = generated.shape[1]
        seconds = config.seconds(0, steps)
        packed = np.packbits(generated).tobytes().hex()
        return (
            Grid(
                track=before[0], repeat=steps // len(before[0]), generated=packed, bins=config.bins, seconds=seconds,
                title="codebook, before",
            ),
            Grid(
                track=after[level], repeat=1, generated="", bins=config.bins, seconds=seconds, title="codebook, after",
            ),
        )  # fmt: skip

    def _first(self, sample: int) -> int:
        """Returns the first song that varies the same recording, whose files show it."""
        return next(index for index, take in enumerate(self.before) if take[0] == self.before[sample][0])

    def _paths(self, sample: int) -> list[str]:
        first, suffix = self._first(sample), self.settings.output.format
        return [
            f"audio/original/sample_{first}.{suffix}",
            f"pictures/original_sample_{first}_waveform.png",
            f"pictures/original_sample_{first}_spectrogram.png",
            f"pictures/grid_sample_{sample}_mask.png",
            f"pictures/grid_sample_{sample}_result.png",
        ]

    def _causes(self, sample: int) -> str:
        tracks = [take[0].lines() for take in (self.before[sample], self.after[sample])]
        return digest({"version": _VERSION, "tracks": tracks, "after": [t.lines() for t in self.after[sample]]})

    def _record(self, folder: Path, manifest: Mapping[str, Any], sample: int) -> Mapping[str, Any] | None:
        """Returns the record of a song if it was made from these tokens and all its files are as they were."""
        for record in manifest.get("originals", []):
            if record["sample"] == sample and record["causes"] == self._causes(sample):
                files = {each["path"]: each for each in record["files"]}
                whole = all(path in files and is_intact(folder, files[path]) for path in self._paths(sample))
                return record if whole else None
        return None


def original_in(manifest: Mapping[str, Any], sample: int) -> Original | None:
    """Returns the recording that a song varies, as the manifest records its files; None if there is none."""
    for record in manifest.get("originals", []):
        if record["sample"] == sample:
            audio, waveform, spectrogram, mask, result = (each["path"] for each in record["files"])
            sound = Track(
                level=0, audio=audio, seconds=record["seconds"], peak=record["peak"], rms=record["rms"],
                waveform=waveform, spectrogram=spectrogram,
            )  # fmt: skip
            return Original(sound=sound, grids=(Picture(mask, _MASK), Picture(result, _RESULT)))
    return None


def of_variations(settings: Settings) -> dict[str, Any]:
    """Returns what the report of a run says only of variations: names of levels, and terms that are passed on."""
    family = open_varying(settings.family.name)
    notes: tuple[str, ...] = ()
    if "BY-NC-SA" in settings.model.files.licence.upper():
        notes = (
            "These variations are derived from weights under CC BY-NC-SA 4.0: share them under the same terms, name "
            f"the makers of {settings.model.name}, and make no commercial use of them.",
        )
    return {"level_names": family.level_names, "notes": notes}


def of_song(settings: Settings, sample: int) -> dict[str, str]:
    """Returns the labels of a variation: its recording, and its number and mask."""
    said = settings.family.describe(settings.song_of(sample))
    files = settings.prompt.files
    return {
        "artist": Path(files[sample % len(files)]).name,
        "genre": f"variation {said['variation']}: {said['mask']}",
    }
