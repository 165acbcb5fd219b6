"""Text on its way through Hydra and OmegaConf, in both directions."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from pipelines.settings.overrides import check_references, escaped, parse, quoted, unescaped

PIECES = ["${", "}", "\\", "a", "???", ":", '"', "'", "\n", " ", "$", "{", "oc.env:HOME", "é", ",", "["]
texts = st.lists(st.sampled_from(PIECES), max_size=8).map("".join) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0")
)


@given(texts)
@example("\\${a}")
@example("\\\\${oc.env:HOME}")
def test_data_comes_back_from_omegaconf_as_they_were(text: str) -> None:
    data = {"a": text, "b": [text, {"c": text}], "d": [1, None, True]}
    config = OmegaConf.create(escaped(data))
    check_references(OmegaConf.to_container(config))
    assert unescaped(OmegaConf.to_container(config, resolve=True, throw_on_missing=True)) == data


@given(texts)
@example("\\")
@example('\\"')
@example("a\n")
def test_hydra_reads_quoted_text_as_it_was(text: str) -> None:
    assert parse(f"a={quoted(text)}").value() == text
