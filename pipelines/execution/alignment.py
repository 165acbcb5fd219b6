"""The words of a run in time with its music: a task for each song, whose files are made once and recorded in the run.

A song's record in the manifest names what its files follow from (tokens, text, conditioning, weights, head, windows,
precision) and their digests, so that a repeated command makes only what is missing.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jukebox_core.alignment.export import TimedText, alignment_paths, read_text
from jukebox_core.base.hashing import digest
from jukebox_core.errors import ConfigError
from jukebox_core.family import open_aligning
from pipelines.runs.output_files import is_intact, make_room, recorded
from stages.sound.align import SungTrack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jukebox_core.alignment.config import AlignmentConfig
    from jukebox_core.models.config import WeightsConfig
    from jukebox_core.runtime.config import HardwareConfig
    from jukebox_core.tokens.graph import Take
    from pipelines.orchestration.stage_calls import Stages
    from pipelines.runs.folder import RunFolder
    from pipelines.settings.generate import Settings
    from stages.handles import FileHandle
    from stages.resident import AlignerSpec
    from stages.sound.align import AlignedWords

log = logging.getLogger("jukebox")

FOLDER = "align"
LEAST_FOCUS = 0.3  # below it the times are noise (docs/alignment.md has the figures)
_VERSION = 1  # of the way times are found: other times make other files


def check_alignment(settings: Settings, config: AlignmentConfig, *, run: str | None = None) -> None:
    """Checks that the words of a run can be aligned: before any weights are read, and without a vocabulary.

    Args:
        settings: the run's.
        config: how they are to be aligned.
        run: name of a run that exists already.

    Raises:
        ConfigError: no song has words, or the model aligns none, names no head, or has no such head.
    """
    if run is not None and not hasattr(type(settings.family), "open_aligner"):
        raise ConfigError(f"run {run} is of the family {settings.family.name}, which aligns no text; name another run")
    open_aligning(settings.family.name).aligning_head(settings.config, config.layer, config.head)
    samples = range(settings.sampling.n_samples)
    if not any(settings.family.describe(settings.song_of(each)).get("lyrics", "").strip() for each in samples):
        if run is not None:
            raise ConfigError(f"run {run} has no lyrics to align; generate one with song.lyrics or song.lyrics_file")
        raise ConfigError(
            "align is true, but the song has no lyrics; set song.lyrics or song.lyrics_file, or align=false"
        )


def sung_tracks(settings: Settings, conditioning: Sequence[Any], takes: Sequence[Take]) -> dict[int, SungTrack]:
    """Returns the songs of a run that have words which the model can read, by sample."""
    family, config = open_aligning(settings.family.name), settings.config
    found = {}
    for sample, (each, take) in enumerate(zip(conditioning, takes, strict=True)):
        text, (total, offset) = family.aligned_text(config, each), family.aligned_position(each)
        if text.strip():
            found[sample] = SungTrack(
                track=take[config.top],
                text=text,
                conditioning=each,
                row_seconds=config.seconds(config.top, 1),
                offset_seconds=offset / config.sample_rate,
                song_seconds=total / config.sample_rate,
            )
    return found


def aligner_spec(
    settings: Settings, config: AlignmentConfig, weights: FileHandle, hardware: HardwareConfig, library: WeightsConfig
) -> AlignerSpec:
    """Returns what opens the head that `config` names, of the top level of a run's model."""
    layer, head = open_aligning(settings.family.name).aligning_head(settings.config, config.layer, config.head)
    from stages.resident import AlignerSpec  # needs torch

    return AlignerSpec(
        family=settings.family.name,
        config=settings.config,
        role=settings.family.role_of(settings.config.top),
        weights=weights,
        hardware=hardware,
        layer=layer,
        head=head,
        library=None if library.prepared_home is None else str(library.prepared_home),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class RunAlignment:
    """The alignment of a run's songs, in the run's folder."""

    aligner: AlignerSpec
    songs: Mapping[int, SungTrack]  # by sample
    store: str  # URI of the token store
    config: AlignmentConfig

    @classmethod
    def of(
        cls, settings: Settings, weights: FileHandle, conditioning: Sequence[Any], takes: Sequence[Take]
    ) -> RunAlignment:
        """Returns the alignment that a run's own settings ask for."""
        return cls(
            aligner=aligner_spec(settings, settings.alignment, weights, settings.hardware, settings.weights),
            songs=sung_tracks(settings, conditioning, takes),
            store=settings.storage.tokens,
            config=in_run(settings.alignment),
        )

    def write(self, run: RunFolder, stages: Stages) -> None:
        """Aligns every song whose files do not exist yet, and records each in the manifest: a kill costs one song."""
        manifest = run.current_manifest()
        for sample, song in self.songs.items():
            if self._record(run.path, manifest, sample) is None:
                manifest = self._align(run, stages, sample, song)

    def is_complete(self, folder: Path, manifest: Mapping[str, Any]) -> bool:
        """Whether all files exist, made from these causes."""
        return all(self._record(folder, manifest, sample) is not None for sample in self.songs)

    def _align(self, run: RunFolder, stages: Stages, sample: int, song: SungTrack) -> dict[str, Any]:
        paths = self._paths(sample)
        for path in paths:
            make_room(run.path, path)
        stem = run.path / FOLDER / f"sample_{sample}"
        found = stages.align_song(self.aligner, song, self.store, self.config, stem)
        report_quality(sample, found)
        record = {"sample": sample, "causes": self._causes(sample), "focus": round(found.focus, 4)}
        record |= {"words": found.words, "estimated": found.estimated}
        others = [each for each in run.current_manifest().get("alignment", []) if each["sample"] != sample]
        files = [recorded(run.path, path) for path in paths]
        return run.update(alignment=sorted([*others, record | {"files": files}], key=lambda each: each["sample"]))

    def _paths(self, sample: int) -> list[str]:
        return [path.as_posix() for path in alignment_paths(self.config, Path(FOLDER) / f"sample_{sample}")]

    def _causes(self, sample: int) -> str:
        aligner, song = self.aligner, self.songs[sample]
        return digest(
            {
                "version": _VERSION,
                "tokens": song.track.lines(),
                "text": song.text,
                "conditioning": song.conditioning,
                "weights": aligner.weights.identity,
                "head": [aligner.layer, aligner.head],
                "windows": [self.config.hop, self.config.merge],
                "dtype": aligner.hardware.dtype,
            }
        )

    def _record(self, folder: Path, manifest: Mapping[str, Any], sample: int) -> Mapping[str, Any] | None:
        """Returns the record of a song if it was made from these causes and all its files are as they were."""
        for record in manifest.get("alignment", []):
            if record["sample"] == sample and record["causes"] == self._causes(sample):
                files = {each["path"]: each for each in record["files"]}
                whole = all(path in files and is_intact(folder, files[path]) for path in self._paths(sample))
                return record if whole else None
        return None


def in_run(config: AlignmentConfig) -> AlignmentConfig:
    """Returns how words are aligned in a run's folder: also as JSON, which the report reads."""
    return config if "json" in config.formats else replace(config, formats=("json", *config.formats))


def report_quality(sample: int, found: AlignedWords) -> None:
    """Logs what was found, and warns where the head does not follow the words."""
    log.info(
        "align    sample %d: %d words, %d of them estimated, focus %.2f",
        sample,
        found.words,
        found.estimated,
        found.focus,
    )
    if found.focus < LEAST_FOCUS:
        log.warning(
            "align    sample %d: the head does not follow the words (focus %.2f, below %.2f): these times are noise; "
            "choose another layer and head",
            sample,
            found.focus,
            LEAST_FOCUS,
        )


def timed_texts(folder: Path, manifest: Mapping[str, Any]) -> dict[int, TimedText]:
    """Returns the words with times of each song of a run that has them, by sample; damaged files count as none."""
    found = {}
    for record in manifest.get("alignment", []):
        for file in record["files"]:
            if file["path"] == f"{FOLDER}/sample_{record['sample']}.json" and is_intact(folder, file):
                found[record["sample"]] = read_text(folder / file["path"])
    return found
