"""The plan of a run, made before any computation: every window of every song, with its key.

Integers and hashes only, without torch or Prefect, so that a finished run is recognised in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jukebox_core.errors import RunError
from jukebox_core.family import varies
from pipelines.runs.takes import check_weights, starting_takes
from stages.sampling.prompt import Excerpt, Prompt, Recording, plan_prompt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from jukebox_core.protocols import SongPlan
    from jukebox_core.store.store import TokenStore
    from jukebox_core.tokens.graph import Node, Take
    from pipelines.settings.generate import Settings


@dataclass(frozen=True, slots=True)
class RunPlan:
    """The prompts to encode and the windows to sample."""

    prompts: tuple[Prompt, ...]
    start: tuple[Take, ...]  # the initial take of each song
    songs: tuple[SongPlan, ...]

    @property
    def nodes(self) -> list[Node]:
        """Every window of every song."""
        return [node for song in self.songs for node in song.nodes]

    @property
    def takes(self) -> list[Take]:
        """The final take of each song."""
        return [song.take for song in self.songs]

    def missing(self, store: TokenStore) -> set[str]:
        """Returns the keys of planned windows and prompts that are not stored yet.

        Raises:
            RunError: a window of an earlier run that the songs start with is no longer stored.
        """
        keys = {key for prompt in self.prompts for key in prompt.keys} | {node.key for node in self.nodes}
        kept = {span.key for take in self.start for track in take for span in track} - keys
        missing = store.missing(keys | kept)
        if missing & kept:
            raise RunError(
                f"{len(missing & kept)} windows that the songs begin with are not in {store.uri} any more; resume the "
                "run that made them, which samples them again (`jukebox runs tree` names it)"
            )
        return missing


def plan_run(
    settings: Settings,
    recordings: Mapping[Excerpt, Recording],
    conditioning: Sequence[Any],
    weights: Mapping[str, str],
    *,
    codec_file: Path | None = None,
    resume: bool = False,
) -> RunPlan:
    """Returns the plan of a run, from the initial takes of its songs to their full length.

    Args:
        settings: the run's.
        recordings: length and digest of each prompt.
        conditioning: of each song, as `Family.condition` returned it.
        weights: identities by role.
        codec_file: the codec, on this machine; needed where songs begin with prompts.
        resume: the run is resumed as it was planned, even if its source runs have become others.

    Raises:
        ConfigError: a source run lacks a sample or a time that the settings name.
        RunError: a source run has no tokens, or was made with other weights.
    """
    codec = weights[settings.family.codec_role]
    prompts = {}
    for excerpt, recording in recordings.items():
        assert codec_file is not None, "prompts are encoded"
        lengths = settings.family.code_lengths(settings.config, codec_file, recording.samples)
        prompts[excerpt] = plan_prompt(excerpt, recording, settings.model.family, lengths, codec)
    check_weights(settings, weights, resume=resume)
    excerpts = prompt_excerpts(settings)
    have = starting_takes(settings, [prompts[excerpt] for excerpt in excerpts], resume=resume)
    songs = settings.family.plan(settings, conditioning, weights, have)
    return RunPlan(tuple(prompts.values()), tuple(have), tuple(songs))


def prompt_excerpts(settings: Settings) -> list[Excerpt]:
    """Returns the excerpt that each song starts with; files are repeated in order if there are fewer than songs.

    A prompt without a length is as long as the music at most; a recording to be varied is all of it, however long.
    """
    prompt, whole = settings.prompt, varies(settings.family)
    if not prompt.files:
        return []
    return [
        Excerpt(
            path=prompt.files[sample % len(prompt.files)],
            seconds=prompt.seconds,
            offset_seconds=prompt.offset_seconds,
            longest=None if whole else settings.seconds,
            padded=whole,
        )
        for sample in range(settings.sampling.n_samples)
    ]
