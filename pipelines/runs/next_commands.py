"""What a user can do with the result of a command: the two commands that are printed at its end."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from jukebox_core.family import transcribes, varies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jukebox_core.family import Family
    from pipelines.runs.folder import RunFolder
    from pipelines.settings.generate import Settings

_ROOT = "outputs"  # below it runs are found by name


def after_run(settings: Settings, run: RunFolder) -> list[str]:
    """Returns the lines after a finished run: to finish or continue its songs, to vary or to transcribe them."""
    name = run.name if settings.storage.root == _ROOT else str(run.path)
    again = f"sampling.seed={settings.sampling.seed + 1}"
    if varies(settings.family):
        return _lines(["transcribe", f"audio={name}"], ["vamp", f"audio={name}", again])
    longer = ["continue", name, f"seconds={settings.seconds * 2:g}"]
    if settings.sampling.stop_level > 0:
        return _lines(["upsample", name], longer)
    keep = f"source.keep_seconds={settings.seconds / 2:.4g}"
    return _lines(longer, ["continue", name, keep, again])


def after_files(verb: str, setting: str, paths: Sequence[str], *others: Sequence[str]) -> list[str]:
    """Returns the lines after a command that made files: another command with the first of them, and `others`.

    Args:
        verb: the command.
        setting: of it, which takes a file.
        paths: of the files that were made; without any there are no lines.
        others: commands as lists of words.
    """
    return _lines([verb, f"{setting}={paths[0]}"], *others) if paths else []


def after_decoding(sounds: Sequence[str]) -> list[str]:
    """Returns the lines after sound was decoded: to go on from it, or to vary it."""
    return after_files("generate", "prompt.files", sounds, ["vamp", f"audio={sounds[0]}"]) if sounds else []


def after_features(audio: str) -> list[str]:
    """Returns the lines after features were taken: those of the codec alone, or the codes of the same recordings."""
    return _lines(["features", f"audio={audio}", "features=vqvae"], ["encode", f"audio={audio}"])


def after_composing(folder: str) -> list[str]:
    """Returns the lines after songs were composed: to check them, or to learn from them."""
    return _lines(["dataset", f"audio={folder}", "folder=outputs/checks", "encode=false"], _trained_on(folder))


def after_dataset(audio: str, folder: str, *, encoded: bool) -> list[str]:
    """Returns the lines after recordings were checked or encoded: to encode them, or to learn from them."""
    if encoded:
        return _lines(_trained_on(audio), [*_trained_on(audio), f"data.codes={folder}", "parts=[level_2]"])
    return _lines(["dataset", f"audio={audio}", "folder=outputs/codes"], _trained_on(audio))


def _trained_on(audio: str) -> list[str]:
    return ["train", f"data.audio={audio}"]


def after_training(family: Family, folder: str) -> list[str]:
    """Returns the lines after a training: to use the model in `folder`."""
    if transcribes(family):
        return _lines(
            ["transcribe", "audio=song.wav", f"model={folder}"], ["transcribe", "audio=songs", f"model={folder}"]
        )
    if varies(family):
        uses = ["vamp", "audio=song.wav", f"model={folder}"]
        return _lines(uses, [*uses, "sampling.n_samples=4"])
    return _lines(["generate", f"model={folder}"], ["generate", f"model={folder}", "sampling.n_samples=4"])


def _lines(*commands: Sequence[str]) -> list[str]:
    return ["next:", *(f"  jukebox {shlex.join(command)}" for command in commands)]
