"""Listening in the middle: a run stops after a level, and somebody says how it goes on. No Prefect here.

A choice makes a run of its own, which starts from the tokens of the first: `first_part` is what is made before the
choice, `after` what is made of it, and `advice` the commands that do the same from a shell.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from jukebox_core.errors import ConfigError
from pipelines.settings.generate import ChooseSettings, SourceSettings

if TYPE_CHECKING:
    from pipelines.runs.folder import RunFolder
    from pipelines.settings.generate import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """How a run goes on."""

    sample: int | None = None  # the sample to go on with; None: every one with itself
    keep_seconds: float | None = None  # cut there, and sample this level again from there; None: go on to lower levels


def first_part(settings: Settings) -> Settings:
    """Returns the settings of what is made before the choice; those given, if there is none to make."""
    level = settings.choose.after_level
    if level is None or level <= settings.sampling.stop_level:
        return settings
    return replace(settings, sampling=replace(settings.sampling, stop_level=level))


def check(settings: Settings, choice: Choice) -> None:
    """Checks that a choice can be made.

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
        settings: of the whole, as they were before `first_part`.
        run: what was listened to.
        choice: what was said.

    Raises:
        ConfigError: the choice is out of range.
    """
    check(settings, choice)
    again = choice.keep_seconds is not None
    source = SourceSettings(
        run=str(run.path.resolve()),
        command="continue" if again else "upsample",
        keep_seconds=choice.keep_seconds,
        samples=() if choice.sample is None else (choice.sample,),
    )
    prompt = replace(settings.prompt, files=(), seconds=None)
    began = replace(settings, run=replace(settings.run, name=None), prompt=prompt, source=source)
    songs = settings.songs if choice.sample is None else settings.songs[choice.sample : choice.sample + 1]
    if again:  # the same noise at the same place would make the same music
        songs = songs if choice.sample is None else songs * settings.sampling.n_samples
        return replace(began, songs=songs, sampling=replace(settings.sampling, seed=settings.sampling.seed + 1))
    began = replace(began, choose=ChooseSettings())
    if choice.sample is None:
        return began
    return replace(began, songs=songs, sampling=replace(settings.sampling, n_samples=1))


def advice(settings: Settings, run: RunFolder) -> list[str]:
    """Returns what to tell at the end of a run that stopped for a choice: what to listen to, and the next commands."""
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
