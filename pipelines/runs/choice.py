"""Choices in the middle of a run: it stops after a level, the user listens, and chooses how to continue. No Prefect.

A choice starts a second run from the tokens of the first: `first_part` returns the settings of the first run, `after`
those of the second, and `advice` the equivalent shell commands.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from jukebox_core.base.structuring import build
from jukebox_core.errors import ConfigError
from pipelines.settings.generate import ChooseSettings, SourceSettings

if TYPE_CHECKING:
    from pipelines.runs.folder import RunFolder
    from pipelines.settings.generate import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """How a run continues."""

    sample: int | None = None  # the sample to continue with; None: each sample continues itself
    keep_seconds: float | None = None  # cut there and sample this level again; None: continue with the lower levels


def first_part(settings: Settings) -> Settings:
    """Returns the settings of the run before the choice; unchanged if the settings have no choice."""
    level = settings.choose.after_level
    if level is None or level <= settings.sampling.stop_level:
        return settings
    return replace(settings, sampling=replace(settings.sampling, stop_level=level))


def check(settings: Settings, choice: Choice) -> None:
    """Checks that a choice is possible.

    Raises:
        ConfigError: it is out of range; the message gives the range.
    """
    last = settings.sampling.n_samples - 1
    if choice.sample is not None and not 0 <= choice.sample <= last:
        raise ConfigError(f"sample is {choice.sample}, but there are samples 0 to {last}; choose one of these, or none")
    if choice.keep_seconds is not None and not 0 < choice.keep_seconds < settings.seconds:
        raise ConfigError(
            f"keep_seconds is {choice.keep_seconds:g}, but the music has {settings.seconds:g} s; "
            "choose a time within it, or none"
        )


def after(settings: Settings, run: RunFolder, choice: Choice) -> Settings:
    """Returns the settings of the run that follows the choice.

    Args:
        settings: of both runs together, as they were before `first_part`.
        run: the finished first run.
        choice: how to continue it.

    Raises:
        ConfigError: the choice is out of range.
    """
    check(settings, choice)
    settings = _with_words_of(run, settings)
    again = choice.keep_seconds is not None
    source = SourceSettings(
        run=str(run.path.resolve()),
        command="continue" if again else "upsample",
        keep_seconds=choice.keep_seconds,
        samples=() if choice.sample is None else (choice.sample,),
    )
    prompt = replace(settings.prompt, files=(), seconds=None)
    second = replace(settings, run=replace(settings.run, name=None), prompt=prompt, source=source)
    songs = settings.songs if choice.sample is None else settings.songs[choice.sample : choice.sample + 1]
    if again:  # another seed: the same noise at the same position would draw the same tokens
        songs = songs if choice.sample is None else songs * settings.sampling.n_samples
        return replace(second, songs=songs, sampling=replace(settings.sampling, seed=settings.sampling.seed + 1))
    second = replace(second, choose=ChooseSettings())
    if choice.sample is None:
        return second
    return replace(second, songs=songs, sampling=replace(settings.sampling, n_samples=1))


def _with_words_of(run: RunFolder, settings: Settings) -> Settings:
    """Returns the settings with the songs of `run`, which hold the words that a lyrics file had when it was made."""
    made = run.known_manifest().get("identity")
    if made is None:
        return settings
    family = settings.family
    kind: type[Any] = family.song_overrides_type
    songs = tuple(build(kind, song, f"songs.{n}") for n, song in enumerate(made["songs"]))
    return replace(settings, song=build(family.song_type, made["song"], "song"), songs=songs)


def advice(settings: Settings, run: RunFolder) -> list[str]:
    """Returns the lines printed after a run that stopped for a choice: files to listen to, and the next commands."""
    level, samples = settings.choose.after_level, settings.sampling.n_samples
    if level is None or level < settings.sampling.stop_level:
        return []
    name, some = shlex.quote(str(run.path)), samples - 1
    last = settings.sampling.stop_level
    stop = f" sampling.stop_level={last}" if 0 < last < level else ""
    chosen = shlex.quote(f"source.samples=[{some}]")
    cut = f"{max(settings.seconds / 2, 0.01):g}"
    seed = settings.sampling.seed + 1
    which = f"of samples 0 to {some}" if some else "of the one sample"
    lines = [
        f"choose: listen to {run.path / 'audio' / f'level_{level}'} ({which}), then write one of",
        f"  jukebox upsample {name}{stop}    # finish {'all of them' if some else 'it'}",
    ]
    if some:
        lines.append(f"  jukebox upsample {name} {chosen} sampling.n_samples=1{stop}    # finish sample {some}")
    lines.append(
        f"  jukebox continue {name} {chosen} source.keep_seconds={cut} sampling.seed={seed}"
        f"    # keep {cut} s of sample {some}, and sample on from there"
    )
    return lines
