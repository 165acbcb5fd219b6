"""Pages are correct: links and paths exist, commands compose, figures are counted."""

from __future__ import annotations

import math
import re
import shlex

import pytest
from safetensors import safe_open

from jukebox_core.models.presets import load_preset
from pipelines.settings.compose import (
    COMPOSE,
    DATASET,
    EVALUATE,
    EXPORT,
    FINETUNE,
    GENERATE,
    INPAINT,
    TRAIN,
    TRANSCRIBE,
    VAMP,
    compose,
)
from tests.helpers.pages import CARD, PAGES, ROOT, commands, links, paths

ROOTS = {
    "generate": GENERATE,
    "serve": GENERATE,
    "compose": COMPOSE,
    "dataset": DATASET,
    "transcribe": TRANSCRIBE,
    "vamp": VAMP,
    "inpaint": INPAINT,
    "evaluate": EVALUATE,
    "export": EXPORT,
}
TRAININGS = {"train": TRAIN, "finetune": FINETUNE}
RUN_BY_ANOTHER_TEST = ("README.md", "docs/guide.md", "docs/features.md", "docs/alignment.md")


@pytest.mark.parametrize("page", PAGES)
def test_link_targets_exist(page: str) -> None:
    for target in links(page):
        assert ((ROOT / page).parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES)
def test_files_named_on_pages_exist(page: str) -> None:
    for path in paths(page):
        assert (ROOT / path).exists(), path


def settings_named(page: str) -> list[tuple[str, list[str]]]:
    """The commands of a page that compose settings, with their overrides; models that readers train are left out."""
    known = ROOTS | TRAININGS
    found = []
    for command in commands(page):
        while command and not command[0].endswith("jukebox"):  # as in `cd /srv && jukebox ...`
            command = command[1:]
        if len(command) > 1 and command[1] in known:
            overrides = [word for word in command[2:] if "=" in word and not word.startswith(("-", "model=outputs"))]
            found.append((command[1], overrides))
    return found


@pytest.mark.parametrize("page", [page for page in PAGES if page not in RUN_BY_ANOTHER_TEST and settings_named(page)])
def test_commands_name_settings_that_exist(page: str) -> None:
    for name, overrides in settings_named(page):
        compose((ROOTS | TRAININGS)[name], overrides)


def test_the_systemd_unit_runs_the_command_shown() -> None:
    text = (ROOT / "docs/deploy.md").read_text()
    [line] = re.findall(r"^ExecStart=(.+)$", text, re.MULTILINE)
    shown = [command[1:] for command in commands("docs/deploy.md") if command[0].endswith("jukebox")]
    assert tuple(shlex.split(line))[1:] in shown


def weights_of_mini() -> dict[str, int]:
    """The number of parameters in each shipped file."""
    counts = {}
    for role, file in load_preset("mini").files.weights.items():
        with safe_open(ROOT / "jukebox_core/data" / file.path, "numpy") as opened:
            counts[role] = sum(math.prod(opened.get_slice(name).get_shape()) for name in opened.keys())  # noqa: SIM118
    return counts


def test_pages_state_the_size_of_the_embedded_model() -> None:
    counts = weights_of_mini()
    [stated] = re.findall(r"^\| `mini` \| ([\d.]+) million", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert float(stated) == round(counts["level_2"] / 1e6, len(stated.partition(".")[2]))
    [stated] = re.findall(r"([\d.]+) million numbers", (ROOT / CARD).read_text())
    assert float(stated) == round(sum(counts.values()) / 1e6, len(stated.partition(".")[2]))


def test_the_readme_states_the_song_lengths_of_the_released_models() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([\d.]+)\W([\d.]+) s \|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert [name for name, *_ in rows] == ["mini", "1b_lyrics", "5b", "5b_lyrics"]
    for name, least, most in rows:
        timing = load_preset(name).network.priors[2].timing
        assert timing is not None
        assert (timing.min_seconds, timing.max_seconds) == (float(least), float(most))
