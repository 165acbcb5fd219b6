"""What a run will do, known before it does any of it: every window of every song, with its key.

Integers and hashes only: nothing here needs torch or Prefect, so a run that has nothing left to do is known in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from jukebox_core.errors import RunError
from jukebox_core.families.jukebox.sampling.song_plan import SongPlan, SongSpec, plan_song
from pipelines.runs.takes import check_weights, starting_takes
from stages.sampling.label import SongRequest, read_lyrics
from stages.sampling.prompt import Excerpt, Prompt, plan_prompt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jukebox_core.families.jukebox.conditioning.labels import SongLabels
    from jukebox_core.store.store import TokenStore
    from jukebox_core.tokens.graph import Node, Take
    from pipelines.settings.generate import Settings
    from stages.handles import FileHandle


_PLANNED = 32  # songs whose plans are kept: a command plans twice, to see what is missing and to sample it
_planned = lru_cache(maxsize=_PLANNED)(plan_song)


@dataclass(frozen=True, slots=True)
class RunPlan:
    """The prompts to encode and the windows to sample."""

    prompts: tuple[Prompt, ...]
    start: tuple[Take, ...]  # what each song has before sampling begins
    songs: tuple[SongPlan, ...]

    @property
    def nodes(self) -> list[Node]:
        """Every window of every song."""
        return [node for song in self.songs for node in song.nodes]

    @property
    def takes(self) -> list[Take]:
        """What each song will be made of."""
        return [song.take for song in self.songs]

    def missing(self, store: TokenStore) -> set[str]:
        """Returns the keys of all that is planned and not stored yet, prompts included.

        Raises:
            RunError: something that is kept of an earlier run is not stored any more.
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


def plan_run(settings: Settings, labels: Sequence[Sequence[SongLabels]], weights: Mapping[str, FileHandle]) -> RunPlan:
    """Returns the plan of a run, from what its songs begin with to their full length.

    Raises:
        AudioError: a prompt cannot be read.
        ConfigError: the runs to start from do not have what is asked of them.
        RunError: one of them has no tokens, or was made with other weights.
    """
    excerpts, config = prompt_excerpts(settings), settings.model.config
    known = {each: plan_prompt(each, config, weights["vqvae"].identity) for each in dict.fromkeys(excerpts)}
    check_weights(settings, weights)
    have = starting_takes(settings, [known[each] for each in excerpts])
    songs = (
        _planned(song_spec(settings, sample, labels[sample], weights), have[sample])
        for sample in range(settings.sampling.n_samples)
    )
    return RunPlan(tuple(known.values()), tuple(have), tuple(songs))


def needed_weights(settings: Settings) -> tuple[str, ...]:
    """Returns the roles of the weights that a run uses: the VQ-VAE, and the prior of each level that is sampled."""
    sampled = range(settings.sampling.stop_level, settings.model.vqvae.levels)
    return ("vqvae", *(f"level_{level}" for level in sampled))


def song_requests(settings: Settings) -> list[SongRequest]:
    """Returns what the model is told about each song."""
    requests = []
    for sample in range(settings.sampling.n_samples):
        song, times = settings.song_of(sample), settings.times_of(sample)
        requests.append(
            SongRequest(
                artist=song.artist,
                genre=song.genre,
                lyrics=read_lyrics(song.lyrics, song.lyrics_file),
                total_length=times.total_length,
                offset=times.offset,
            )
        )
    return requests


def prompt_excerpts(settings: Settings) -> list[Excerpt]:
    """Returns the part of a file that each song begins with; files are repeated in order if they are fewer."""
    prompt = settings.prompt
    if not prompt.files:
        return []
    return [
        Excerpt(
            path=prompt.files[sample % len(prompt.files)],
            seconds=prompt.seconds,
            offset_seconds=prompt.offset_seconds,
            longest=settings.seconds,
        )
        for sample in range(settings.sampling.n_samples)
    ]


def song_spec(
    settings: Settings, sample: int, labels: Sequence[SongLabels], weights: Mapping[str, FileHandle]
) -> SongSpec:
    """Returns everything that decides the tokens of one song."""
    roles, used = [f"level_{level}" for level in range(settings.model.vqvae.levels)], needed_weights(settings)
    return SongSpec(
        config=settings.model.config,
        weights=tuple(weights[role].identity if role in used else "" for role in roles),
        sampling=settings.sampling,
        dtype=settings.hardware.dtype,
        sample=sample,
        labels=tuple(labels),
        length=settings.length,
    )
