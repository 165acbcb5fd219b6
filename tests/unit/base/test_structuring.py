from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jukebox_core.base.structuring import build, to_plain
from jukebox_core.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Inner:
    size: int
    ratio: float = 0.5

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ConfigError(f"size is {self.size}; it cannot be negative")
        if self.ratio > self.size:
            raise ConfigError("the ratio is above the size")


@dataclass(frozen=True, kw_only=True, slots=True)
class Outer:
    name: str
    kind: Literal["a", "b"] = "a"
    on: bool = False
    maybe: Inner | None = None
    many: tuple[Inner, ...] = ()
    words: tuple[str, ...] = ()
    named: dict[str, Inner] = field(default_factory=dict)


inners = st.builds(Inner, size=st.integers(1, 9), ratio=st.floats(0, 1))


@given(
    st.builds(
        Outer,
        name=st.text(),
        kind=st.sampled_from(["a", "b"]),
        on=st.booleans(),
        maybe=st.none() | inners,
        many=st.lists(inners).map(tuple),
        named=st.dictionaries(st.text(min_size=1), inners),
    )
)
def test_a_record_round_trips_through_plain_data(record: Outer) -> None:
    assert build(Outer, to_plain(record)) == record


def test_plain_data_hold_nothing_but_mappings_lists_and_values() -> None:
    assert to_plain(Outer(name="x", many=(Inner(size=1),))) == {
        "name": "x",
        "kind": "a",
        "on": False,
        "maybe": None,
        "many": [{"size": 1, "ratio": 0.5}],
        "words": [],
        "named": {},
    }


def test_one_plain_value_is_a_list_of_one() -> None:
    assert build(Outer, {"name": "x", "words": "song.wav"}).words == ("song.wav",)


def test_a_whole_number_is_a_number_too() -> None:
    ratio = build(Inner, {"size": 2, "ratio": 1}).ratio
    assert isinstance(ratio, float)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "name is missing; give it a value"),
        ({"name": 1}, "name is 1; it must be text"),
        ({"name": None}, "name is null; it must be text"),
        ({"name": "x", "nam": 1}, "nam is not a setting; closest: 'name', 'named'"),
        (
            {"name": "x", "sizes": 1},
            "sizes is not a setting; the whole consists of name, kind, on, maybe, many, words, named",
        ),
        ({"name": "x", "size": 1}, "size is not a setting; did you mean maybe.size?"),
        ({"name": "x", "kind": "c"}, "kind is 'c'; choose one of 'a', 'b'"),
        ({"name": "x", "on": 1}, "on is 1; it must be true or false"),
        ({"name": "x", "maybe": 3}, "maybe is 3; it must be a section with size, ratio"),
        ({"name": "x", "maybe": {"size": True}}, "maybe.size is True; it must be a whole number"),
        ({"name": "x", "maybe": {"size": -1}}, "maybe.size is -1; it cannot be negative"),
        ({"name": "x", "maybe": {"size": 0}}, "maybe: the ratio is above the size"),
        ({"name": "x", "many": "ab"}, "many is 'ab'; it must be a list, as in [a, b]"),
        ({"name": "x", "words": {"a": "b"}}, "words is {'a': 'b'}; it must be a list, as in [a, b]"),
        ({"name": "x", "words": 3}, "words.0 is 3; it must be text"),
        ({"name": "x", "many": [{"size": 1}, {"size": 1.0}]}, "many.1.size is 1.0; it must be a whole number"),
        ({"name": "x", "named": []}, "named is []; it must be a section of names and values"),
        (
            {"name": "x", "named": {"k": {"size": 1, "x": 2}}},
            "named.k.x is not a setting; named.k consists of size, ratio",
        ),
        ([], "Outer is []; it must be a section with name, kind, on, maybe, many, words, named"),
    ],
    ids=str,
)
def test_a_value_that_does_not_fit_is_named_by_its_key(data: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(Outer, data)
    assert str(caught.value) == message


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        build(Outer, {"on": "yes", "kind": "c"}, "top")
    assert str(caught.value).splitlines() == [
        "top.name is missing; give it a value",
        "top.kind is 'c'; choose one of 'a', 'b'",
        "top.on is 'yes'; it must be true or false",
    ]
