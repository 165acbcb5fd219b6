"""Variations as a run: each recording is the prompt of its songs, and what its mask needs is found beforehand."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from jukebox_core.audio.files import audio_seconds
from jukebox_core.base.paths import output_folder
from jukebox_core.composer.builtin import BUILTIN_TUNE, read_prompt_audio
from jukebox_core.composer.tune import TUNE_SECONDS
from jukebox_core.errors import AudioError, ConfigError
from pipelines.execution.recordings import files_of, run_of, usable
from pipelines.settings.generate import PromptSettings, Settings
from pipelines.settings.hardware import with_auto_resolved

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from pipelines.settings.vamp import VampSettings

log = logging.getLogger("jukebox")


@dataclass(frozen=True, slots=True)
class _Recording:
    """A recording that is varied."""

    path: str
    seconds: float  # of the excerpt


def run_settings(settings: VampSettings) -> Settings:
    """Returns the settings of the run that varies recordings, after every check that needs no weights.

    Its songs are the variations of the first recording, then those of the next. They hold the times of beats and
    onsets and the drawn mask themselves, so that the run is resumed without any of the files.

    Raises:
        AudioError: a named recording cannot be read, is too short, or none of a folder can be used.
        ConfigError: the mask does not fit the model or a recording, or runs would be in a folder that is read.
    """
    family, config = settings.family, settings.model.config
    sampling = family.check_variation(config, settings.mask, settings.sampling)
    root = settings.storage.root
    output_folder(root, [name for name in settings.audio if name != BUILTIN_TUNE and run_of(name, root) is None])
    recordings = _recordings(settings)
    for recording in recordings:
        try:
            family.check_recording(config, settings.mask, recording.seconds)
        except ConfigError as error:
            raise ConfigError(f"{recording.path}: {error}") from None
    masks = [
        family.complete_mask(config, settings.mask, recording.path, _sound(settings, recording))
        for recording in recordings
    ]
    count = sampling.n_samples
    return with_auto_resolved(
        Settings(
            run=settings.run,
            model=settings.model,
            sampling=replace(sampling, n_samples=count * len(recordings)),
            hardware=settings.hardware,
            seconds=math.floor(max(each.seconds for each in recordings) * 100 + 1) / 100,
            song=settings.model.opened.song_type(mask=masks[0]),
            songs=tuple(
                cast("Any", family.variation(None if mask == masks[0] else mask, number))
                for mask in masks
                for number in range(count)
            ),
            prompt=PromptSettings(
                files=tuple(recording.path for recording in recordings for _ in range(count)),
                seconds=settings.seconds,
                offset_seconds=settings.offset_seconds,
            ),
            storage=settings.storage,
            weights=settings.weights,
            output=settings.output,
            runner=settings.runner,
        )
    )


def _recordings(settings: VampSettings) -> list[_Recording]:
    named = [each for name in settings.audio for each in _named(name, settings.storage.root)]
    lengths = usable(named, lambda path: _seconds(settings, path))
    return [_Recording(path, seconds) for path, seconds in lengths.items()]


def _named(name: str, root: str) -> list[tuple[str, bool]]:
    if name == BUILTIN_TUNE:
        return [(name, True)]
    return [(str(path.absolute()), named) for path, _, named in files_of(name, root)]


def _seconds(settings: VampSettings, path: str) -> float:
    """Returns the length of the excerpt of a recording.

    Raises:
        AudioError: the recording cannot be read, or is shorter than what is asked of it.
    """
    whole = TUNE_SECONDS if path == BUILTIN_TUNE else audio_seconds(Path(path))
    left = whole - settings.offset_seconds
    wanted = left if settings.seconds is None else settings.seconds
    if wanted > left and path != BUILTIN_TUNE:
        raise AudioError(
            f"{path} lasts {whole:.3f} s; it has no {wanted:g} s from {settings.offset_seconds:g} s on: lower seconds "
            "or offset_seconds"
        )
    least = settings.family.shortest_seconds
    if wanted < least:
        raise AudioError(
            f"{path} gives {1000 * wanted:.1f} ms; a recording to be varied lasts at least {1000 * least:g} ms"
        )
    return wanted


def _sound(settings: VampSettings, recording: _Recording) -> Callable[[], NDArray[np.float32]]:
    def read() -> NDArray[np.float32]:
        return read_prompt_audio(
            recording.path,
            rate=settings.model.config.sample_rate,
            seconds=settings.seconds,
            offset=settings.offset_seconds,
        )

    return read
