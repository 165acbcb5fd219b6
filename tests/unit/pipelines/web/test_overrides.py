"""What a request sets comes out of Hydra as it was, and a request cannot set anything but music."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jukebox_core.errors import ConfigError
from pipelines.settings.compose import GENERATE, compose
from pipelines.web.overrides import LONGEST_TEXT, check_allowed, check_model, written

TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc", "Cn")), max_size=40)


@given(TEXT)
@settings(max_examples=15, deadline=None)
def test_text_stays_the_text_that_it_is(text: str) -> None:
    assert compose(GENERATE, list(written({"song.lyrics": text}))).song.lyrics == text


@pytest.mark.parametrize("text", ["null", "true", "${oc.env:HOME}", "a, b", '"', "\\", "[1]", "storage.root=/", "???"])
def test_text_that_looks_like_something_else(text: str) -> None:
    assert compose(GENERATE, list(written({"song.lyrics": text}))).song.lyrics == text


@pytest.mark.parametrize(
    "name",
    ["storage.root", "weights.folder", "hydra.run.dir", "model", "model.files.weight_sources", "prompt.files", "+x",
     "song.lyrics_file", "hardware.device", "runner.address", "~song", "song", "sampling", "experiment", "run.name",
     "source.run", "seconds=1 storage.root", "sampling.__class__", "storage.root\n", "folder", "soundfont"],
)  # fmt: skip
def test_requests_set_no_files_places_or_programs(name: str) -> None:
    with pytest.raises(ConfigError, match="is no setting of requests"):
        check_allowed({name: 1})


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "./m.yaml", "_shared", "mini\n", "", "file.yaml", "mini:x"])
def test_models_are_those_that_are_shipped(name: str) -> None:
    with pytest.raises(ConfigError, match="choose one of"):
        check_model(name)


def test_text_is_bounded_and_names_in_sections_are_plain() -> None:
    with pytest.raises(ConfigError, match="shorten it"):
        list(written({"song.lyrics": "x" * (LONGEST_TEXT + 1)}))
    with pytest.raises(ConfigError, match="is no name of a setting"):
        list(written({"mask": {"a:b,c": 1}}))
    assert list(written({"a": None, "b": [1, 2.5], "c": {"d": True}})) == ["b=[1,2.5]", "c={d:true}"]
