"""The plan of a run, made before any computation: every window of every song, with its key.

Integers and hashes only, without torch or Prefect, so that a finished run is recognised in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jukebox_core.errors import RunError
from pipelines.runs.takes import check_weights, starting_takes
from stages.sampling.prompt import Excerpt, Prompt, Recording, plan_prompt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jukebox_core.protocols import SongPlan
    from jukebox_core.store.store import TokenStore
    from jukebox_core.tokens.graph import Node, Take
    from pipelines.settings.generate import PromptSettings, Settings


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
    resume: bool = False,
) -> RunPlan:
    """Returns the plan of a run, from the initial takes of its songs to their full length.

    Args:
        settings: the run's.
        recordings: length and digest of each prompt.
        conditioning: of each song, as `Family.condition` returned it.
        weights: identities by role.
        resume: the run is resumed as it was planned, even if its source runs have become others.

    Raises:
        ConfigError: a source run lacks a sample or a time that the settings name.
        RunError: a source run has no tokens, or was made with other weights.
    """
    codec = weights[settings.family.codec_role]
    prompts = {
        excerpt: plan_prompt(excerpt, recording, settings.model.family, settings.config, codec)
        for excerpt, recording in recordings.items()
    }
    check_weights(settings, weights, resume=resume)
    excerpts = prompt_excerpts(settings.prompt, settings.sampling.n_samples, settings.seconds)
    have = starting_takes(settings, [prompts[excerpt] for excerpt in excerpts], resume=resume)
    songs = settings.family.plan(settings, conditioning, weights, have)
    return RunPlan(tuple(prompts.values()), tuple(have), tuple(songs))


def prompt_excerpts(prompt: PromptSettings, samples: int, seconds: float) -> list[Excerpt]:
    """Returns the excerpt that each song starts with; files are repeated in order if there are fewer than songs.

    Args:
        prompt: the settings' section.
        samples: songs of the run.
        seconds: length of the music, the maximum of a prompt without a length.
    """
    if not prompt.files:
        return []
    return [
        Excerpt(
            path=prompt.files[sample % len(prompt.files)],
            seconds=prompt.seconds,
            offset_seconds=prompt.offset_seconds,
            longest=seconds,
        )
        for sample in range(samples)
    ]
