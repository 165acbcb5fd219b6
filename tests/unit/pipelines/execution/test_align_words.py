"""The words and the name of the run that `align` reads are those of the run itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from jukebox_core.errors import RunError
from pipelines.cli.main import _root
from pipelines.execution import align
from pipelines.runs.folder import identity
from pipelines.settings.compose import GENERATE, compose

if TYPE_CHECKING:
    from pathlib import Path


def test_words_that_are_not_those_of_the_run_are_refused(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("one two\n")
    made_by = cast("Any", compose(GENERATE, [f"song.lyrics_file={words}"]))
    made_with = identity(made_by)
    run = cast("Any", SimpleNamespace(name="sung", path=tmp_path, identity=lambda: made_with))
    align._check_words(run, made_by)
    words.write_text("three four\n")
    with pytest.raises(RunError, match=r"config\.yaml was changed since run sung was made \(song\.lyrics: 'one two"):
        align._check_words(run, made_by)
    run.identity = dict  # of a manifest that has none
    align._check_words(run, made_by)


@pytest.mark.parametrize("name", ["plain", "a${b}", "\\${c}", "it's", 'a"b', "back\\"])
def test_the_name_of_a_run_is_taken_as_it_is(name: str) -> None:
    root, overrides = _root("align", [name])
    assert compose(root, overrides).run == name
