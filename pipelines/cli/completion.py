"""Completion of what Hydra does not know: names of runs, artists and genres; and the function for bash.

Imports neither torch nor Prefect.
"""

from __future__ import annotations

from dataclasses import replace

from jukebox_core.errors import JukeboxError
from jukebox_core.models.config import WeightsConfig
from jukebox_core.models.labels import names_of
from jukebox_core.models.presets import load_preset
from pipelines.runs.folder import runs_in
from pipelines.settings.common import StorageSettings

_OF_RUN = ("continue", "upsample", "align")
_KINDS = {"song.artist=": "artists", "song.genre=": "genres"}
_DEFAULT_MODEL = "mini"

BASH = r"""_jukebox_completion() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        [ -n "$line" ] && COMPREPLY+=("$(printf '%q' "$line")")
    done < <(COMP_LINE="${COMP_LINE:0:COMP_POINT}" jukebox -sc query=bash 2>/dev/null)
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o nospace -o default -F _jukebox_completion jukebox
"""


def names_for(command: str, words: list[str]) -> list[str] | None:
    """Returns the words that can stand in the place of the last one; None if it is for Hydra to complete.

    Args:
        command: the subcommand.
        words: those after it; the last may be a part of a word, or empty.
    """
    *before, last = words
    if command in _OF_RUN and not before and "=" not in last:
        given = StorageSettings().root
        return [run.name for run in runs_in(given) if run.name.startswith(last)]
    for setting, kind in _KINDS.items():
        if last.startswith(setting):
            begun = last.removeprefix(setting).strip("'\"").replace("\\", "").lower()
            models = [word.removeprefix("model=") for word in before if word.startswith("model=")]
            return [setting + name for name in _names((models or [_DEFAULT_MODEL])[-1], kind) if name.startswith(begun)]
    return None


def _names(model: str, kind: str) -> list[str]:
    """Returns the names that are known on this machine; nothing is fetched while a user types."""
    here = replace(WeightsConfig(), offline=True, auto_download=False)
    try:
        return names_of(load_preset(model), here).get(kind, [])
    except JukeboxError:
        return []
