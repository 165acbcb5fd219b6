"""Help of the commands that take settings: what each does, three examples, and its settings as a table.

Names, defaults and meanings are those of the records of the settings. Imports neither torch nor Prefect.
"""

from __future__ import annotations

import shutil
import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jukebox_core.base.text import printable
from jukebox_core.errors import ConfigError, did_you_mean
from pipelines.settings.choices import groups_of
from pipelines.settings.compose import GENERATE, unchecked
from pipelines.settings.described import Row, rows
from pipelines.settings.generate import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pipelines.settings.compose import Root

FLAGS = ("--help", "-h")
_ON_DEMAND = ("model", "training")  # sections that are long, and rarely set one by one
_WIDEST_DEFAULT, _NARROWEST_MEANING = 22, 30  # characters
_INTERNAL = ("source.run", "source.command")


@dataclass(frozen=True, slots=True)
class Help:
    """What the help of a command says beside its settings."""

    about: str
    examples: tuple[str, ...]  # without the program's name
    first: tuple[str, ...] = ()  # settings and sections that are listed first, in this order
    without: tuple[str, ...] = field(default=("source",))  # settings that the command does not take
    others: bool = True  # the other sections are listed too; otherwise on demand


_SONG = ("song", "songs", "prompt", "seconds", "sampling", "choose", "output", "run", "align")

HELP = {
    "generate": Help(
        "Makes songs, from nothing or from the beginning of a recording: in the style of an artist and a genre, with "
        "words if the model sings. The result is a folder with the sound, its codes and a page to listen to.",
        (
            'generate song.artist="music box" song.genre=waltz seconds=6',
            "generate prompt.files=clip.mp3 prompt.seconds=3 seconds=12 sampling.n_samples=4",
            "generate sampling=top_only sampling.n_samples=8 run.name=sketches",
        ),
        _SONG,
    ),
    "continue": Help(
        "Continues the songs of a run, from their end or from an earlier moment, into a new run. All settings are "
        "those of the run, unless they are given. RUN is its name or folder (`jukebox runs list`).",
        (
            "continue RUN seconds=12",
            "continue RUN seconds=12 source.keep_seconds=4 sampling.seed=7",
            "continue RUN seconds=9 source.samples=1 sampling.n_samples=3 song.lyrics='other words'",
        ),
        ("source", *(each for each in _SONG if each != "prompt")),
        ("prompt",),
        others=False,
    ),
    "upsample": Help(
        "Samples the lower levels of a run that has only the upper ones: the same music, clear and complete. All "
        "settings are those of the run, unless they are given. RUN is its name or folder (`jukebox runs list`).",
        (
            "upsample RUN",
            "upsample RUN source.samples=[2,0] sampling.n_samples=2",
            "upsample RUN sampling.stop_level=1 output=flac",
        ),
        ("source", "sampling", "output", "run"),
        ("source.keep_seconds", "source.splice", "prompt", "choose"),
        others=False,
    ),
    "vamp": Help(
        "Varies recordings: a mask keeps some tokens of each, and the model fills in the others. audio= names files, "
        "folders of files, and runs.",
        (
            "vamp audio=song.wav",
            "vamp audio=song.wav sampling.n_samples=4 mask.period=13",
            "vamp audio=song.wav mask.prefix_seconds=2 seconds=8 model=mini_vamp",
        ),
        ("audio", "seconds", "offset_seconds", "mask", "sampling", "output", "run"),
    ),
    "inpaint": Help(
        "Makes some seconds of recordings again, so that they fit what is before and after them.",
        (
            "inpaint audio=song.wav start=2 stop=4",
            "inpaint audio=song.wav start=2 stop=4 sampling.n_samples=3",
            "inpaint audio=song.wav start=2 stop=4 model=mini_vamp output=flac",
        ),
        ("audio", "start", "stop", "sampling", "output", "run"),
    ),
    "encode": Help(
        "Turns audio files into codes, one file of codes (.npz) for each.",
        (
            "encode audio=clip.mp3",
            "encode audio=[a.wav,b.wav] levels=[2]",
            "encode audio=clip.mp3 seconds=5 folder=codes",
        ),
        ("audio", "seconds", "offset_seconds", "levels", "folder"),
    ),
    "decode": Help(
        "Turns files of codes, as `jukebox encode` writes them, into audio files.",
        (
            "decode codes=outputs/codes/clip.npz",
            "decode codes=outputs/codes/clip.npz level=2",
            "decode codes=[a.npz,b.npz] output=flac folder=sound",
        ),
        ("codes", "level", "output", "folder"),
    ),
    "transcribe": Help(
        "Turns recordings into notes: a MIDI file and a JSON file for each. audio= names files, folders and runs.",
        (
            "transcribe audio=song.wav",
            "transcribe audio=[songs/] model=mt3 report=true",
            "transcribe audio=song.wav csv=true folder=notes",
        ),
        ("audio", "folder", "midi", "csv", "lines", "report", "soundfont", "transcription"),
    ),
    "evaluate": Help(
        "Scores notes against the right ones by the rules of mir_eval, or describes them if there are none.",
        (
            "evaluate estimate=song.mid",
            "evaluate estimate=song.mid reference=right.mid",
            "evaluate estimate=song.mid reference=right.mid granularity=flat json=true",
        ),
        ("estimate", "reference", "granularity", "json", "folder"),
    ),
    "export": Help(
        "Writes the networks of a model as ONNX graphs, each compared with the network before it is kept.",
        (
            "export model=mini_vamp",
            "export model=mini_mt3 folder=graphs",
            "export model=mini graphs=[decoder_0,prefill_2]",
        ),
        ("model", "graphs", "dtype", "folder", "opset", "inline_bytes", "format"),
    ),
    "features": Help(
        "Takes codes and activations of recordings as numpy arrays. audio= names files, folders, patterns and tables.",
        (
            "features audio=song.wav",
            "features audio=[songs/] features=jukemir model=5b",
            "features audio=[songs/] features.layers=[12] folder=arrays",
        ),
        ("audio", "seconds", "offset_seconds", "features", "use_labels", "song", "folder"),
    ),
    "align": Help(
        "Brings the words of a run in time with its music, and writes files of times. RUN is its name or folder.",
        ("align RUN", "align RUN formats=[lrc,srt]", "align RUN folder=words matrix=true"),
        ("formats", "folder", "layer", "head", "hop", "merge", "matrix", "upstream"),
        ("run",),
    ),
    "compose": Help(
        "Composes songs by rules and random numbers, to train models on.",
        ("compose songs=8", "compose songs=8 genres=[waltz] seconds=12", "compose songs=8 midi=true folder=songs"),
    ),
    "dataset": Help(
        "Checks recordings and their metadata, and encodes them for training.",
        (
            "dataset audio=songs",
            "dataset audio=songs encode=false",
            "dataset audio=songs metadata=songs.csv folder=codes",
        ),
        ("audio", "metadata", "checks", "check_labels", "encode", "folder"),
    ),
    "train": Help(
        "Trains a model on a folder of music. The result is a folder that model= takes.",
        (
            "train data.audio=songs name=mine",
            "train recipe=mini",
            "train data.audio=songs parts=[level_2] start=model name=mine",
        ),
        ("data", "name", "folder", "parts", "start", "labels", "licence", "checkpoints", "compose", "album"),
    ),
    "finetune": Help(
        "Fine-tunes a trained model on a folder of music. The result is a folder that model= takes.",
        (
            "finetune data.audio=songs",
            "finetune data.audio=songs '+labels.artists={me: null}' name=mine",
            "finetune data.audio=songs parts=[level_2,level_1]",
        ),
        ("data", "name", "folder", "parts", "start", "labels", "licence", "checkpoints"),
    ),
}


def help_of(name: str, usage: str, root: Root[Any], overrides: Sequence[str], sections: Sequence[str]) -> str:
    """Returns the help of a command.

    Args:
        name: of the command.
        usage: how it is written, without the program's name.
        root: its configuration root; of a run, if one is named.
        overrides: settings whose values are shown as defaults.
        sections: names of the sections that are shown, and no other; all but the long ones if there are none.

    Raises:
        ConfigError: an override does not fit, or there is no such section.
    """
    words, data = HELP[name], unchecked(root, overrides)
    if root.kind is Settings and data.get("source") is None:
        data["source"] = {}  # so that its settings are listed
    listed = [row for row in rows(root.kind, data) if not _within(row.name, (*words.without, *_INTERNAL))]
    if name in ("continue", "upsample") and root is GENERATE:
        own = ("source", "sampling.stop_level") if name == "upsample" else ("source",)
        listed = [row if _within(row.name, own) else row._replace(default="as RUN") for row in listed]
    tops = list(dict.fromkeys(row.name.partition(".")[0] for row in listed))
    for each in sections:
        if each not in tops:
            raise ConfigError(
                f"{name} has no section {each!r}; choose one of {', '.join(tops)}{did_you_mean(each, tops)}"
            )
    chosen = list(sections) or [top for top in words.first if top in tops]
    if words.others and not sections:
        chosen += [top for top in tops if top not in chosen and top not in _ON_DEMAND]
    table = [[row for row in listed if _within(row.name, (top,))] for top in chosen]
    parts = [_head(usage, words)] if not sections else []
    parts.append("\n".join(_table(table)))
    if not sections:
        groups = groups_of(root.kind, root.name if root.node is None else GENERATE.name)
        shown = {group: names for group, names in groups.items() if words.others or group in chosen}
        parts.append(_more(name, [top for top in tops if top not in chosen], shown))
    return "\n\n".join(parts) + "\n"


def _head(usage: str, words: Help) -> str:
    width = _width()
    lines = [f"Usage: jukebox {usage}", "", *textwrap.wrap(words.about, width), "", "Examples"]
    return "\n".join([*lines, *(f"  jukebox {example}" for example in words.examples)])


def _more(name: str, hidden: Sequence[str], groups: dict[str, list[str]]) -> str:
    lines = ["Whole sections are chosen by name, as in group=option"] if groups else []
    for group, options in groups.items():
        lines += textwrap.wrap(
            f"{group}: {', '.join(options)}", _width(), initial_indent="  ", subsequent_indent="      "
        )
    more = []
    if hidden:
        more.append((f"{name} --help SECTION", f"the settings in one of {', '.join(hidden)}"))
    more += [
        (f"{name} ... --cfg job", "the settings as they would be used"),
        (f"{name} ... --multirun NAME=1,2", "once for each value"),
        (f"{name} --hydra-help", "other flags"),
    ]
    column = max(len(command) for command, _ in more)
    return "\n".join([*lines, "", "More", *(f"  jukebox {command:<{column}}  {what}" for command, what in more)])


def _table(groups: Iterable[Sequence[Row]]) -> list[str]:
    """Returns the lines of the table; a blank line before each group of several settings, and after it."""
    groups = list(groups)
    names = max(len(row.name) for group in groups for row in group)
    defaults = min(_WIDEST_DEFAULT, max(len(row.default) for group in groups for row in group))
    names, defaults = max(names, len("SETTING")), max(defaults, len("DEFAULT"))
    column = max(_NARROWEST_MEANING, _width() - names - defaults - 4)
    lines = [f"{'SETTING':<{names}}  {'DEFAULT':<{defaults}}  MEANING"]
    single = False
    for group in groups:
        if len(group) > 1 or not single:
            lines.append("")
        single = len(group) == 1
        for row in group:
            shown = row.default if len(row.default) <= defaults else f"{row.default[: defaults - 3]}..."
            first, *rest = textwrap.wrap(row.meaning, column) or [""]
            lines.append(f"{row.name:<{names}}  {printable(shown):<{defaults}}  {first}".rstrip())
            lines += [f"{'':<{names}}  {'':<{defaults}}  {each}" for each in rest]
    return lines


def _within(name: str, sections: Iterable[str]) -> bool:
    return any(name == section or name.startswith(f"{section}.") for section in sections)


def _width() -> int:
    return min(shutil.get_terminal_size((120, 24)).columns, 140)
