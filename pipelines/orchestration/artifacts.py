"""Prefect artifacts of a run: progress, a table of its windows, and its songs with links and pictures.

Artifacts are optional: they are published in the background (`pipelines.orchestration.recorder`), an error in one never
fails the run, and outside a flow run none is created.
"""

from __future__ import annotations

import base64
import json
import os
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

from pipelines.orchestration import recorder
from pipelines.orchestration.journal import current

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from jukebox_core.tokens.graph import Node
    from pipelines.orchestration.journal import Kind
    from pipelines.runs.folder import RunFolder

LINKS = "JUKEBOX_LINKS"  # environment variable: the address that run folders are served under, as `jukebox serve` does
UPDATE_SECONDS = 5.0  # between two updates of progress and table
PICTURES = 4  # songs whose picture is shown
QUESTION_SECONDS = 30.0  # until a run is suspended though its question could not be published


class Board:
    """Progress artifact and table of windows of one run: created when sampling starts, updated as windows end."""

    def __init__(self, nodes: Sequence[Node], missing: Collection[str]) -> None:
        """Creates the artifacts from all planned nodes, and the keys of those that are to be sampled."""
        self._nodes = nodes
        self._missing = frozenset(missing)
        self._sealed = {node.key for node in nodes if node.key not in self._missing}
        self._shown = 0.0
        self._show()

    def window_done(self, nodes: Iterable[Node]) -> None:
        """Counts the windows of a shard as sealed."""
        self._sealed.update(node.key for node in nodes)
        if len(self._sealed) == len(self._nodes) or time.monotonic() - self._shown >= UPDATE_SECONDS:
            self._show()

    def percent(self) -> float:
        """Returns the percentage of the run's tokens that is sealed, reused ones included; 0 to 100."""
        total = sum(node.window.new for node in self._nodes)
        sealed = sum(node.window.new for node in self._nodes if node.key in self._sealed)
        return 100 * sealed / total if total else 100.0

    def rows(self) -> list[dict[str, str | int]]:
        """Returns the rows of the table: one for each window of a level, all samples together."""
        groups: dict[tuple[int, int, int], list[Node]] = {}
        for node in self._nodes:
            groups.setdefault((-node.level, node.window.start, node.window.stop), []).append(node)
        return [
            {
                "level": -level,
                "tokens": f"{start:,} to {stop:,}",
                "samples": ", ".join(str(node.sample) for node in sorted(group, key=lambda node: node.sample)),
                "sealed": sum(node.key in self._sealed for node in group),
                "reused": sum(node.key not in self._missing for node in group),
                "of": len(group),
            }
            for (level, start, stop), group in sorted(groups.items())
        ]

    def _show(self) -> None:
        rows, percent = self.rows(), self.percent()
        self._shown = time.monotonic()
        publish("progress", "progress", percent, "tokens sampled")
        publish("windows", "table", json.dumps(rows), "windows, level by level")


def show_songs(run: RunFolder) -> None:
    """Shows the audio files of a run with links, pictures of the lowest level, and a link to its report."""
    publish("songs", "markdown", songs_markdown(run), f"songs of run {run.name}")
    if (run.path / "report.html").is_file():
        publish("report", "markdown", f"[report of run {run.name}]({_link(run, 'report.html')})", "the run's report")


def publish(key: str, kind: Kind, data: float | str, description: str) -> None:
    """Publishes an artifact of the flow run that this is called in, in the background; outside of one, does nothing.

    Args:
        key: its name; an artifact that the run has published under it is replaced.
        kind: what `data` is: a percentage, the JSON of a list of rows, or Markdown.
        data: the content.
        description: shown with it.
    """
    journal = current()
    if journal is not None:
        journal.artifact(key, kind, data, description)
    else:
        recorder.publish(key, kind, data, description)


def songs_markdown(run: RunFolder) -> str:
    """Returns the Markdown text that `show_songs` publishes."""
    records = sorted(run.manifest().get("audio", []), key=lambda record: (record["sample"], record["level"]))
    lowest = min((record["level"] for record in records), default=0)
    lines = [f"# {run.name}", "", f"In `{run.path.absolute()}`", ""]
    for record in records:
        path = record["path"]
        lines.append(
            f"- sample {record['sample']}, level {record['level']}: [{path}]({_link(run, path)}), "
            f"{record['seconds']:.1f} s"
        )
        picture = f"pictures/level_{record['level']}_sample_{record['sample']}_spectrogram.png"
        if record["level"] == lowest and record["sample"] < PICTURES and (run.path / picture).is_file():
            lines += ["", f"  ![spectrogram of sample {record['sample']}]({_picture(run, picture)})", ""]
    return "\n".join(lines)


def show_question(text: str) -> None:
    """Publishes `text`, a choice that a suspended run waits for and how to answer it; waits until it can be seen."""
    publish("choose", "markdown", text, "this run waits for a choice")
    recorder.drain(QUESTION_SECONDS)


def _link(run: RunFolder, path: str) -> str:
    base = os.environ.get(LINKS)
    return f"{base}/{quote(run.name)}/{quote(path)}" if base else (run.path.absolute() / path).as_uri()


def _picture(run: RunFolder, path: str) -> str:
    """Returns an address of a picture that a page of a server can load: it may not load file:// addresses."""
    if os.environ.get(LINKS):
        return _link(run, path)
    return "data:image/png;base64," + base64.b64encode((run.path / path).read_bytes()).decode("ascii")
