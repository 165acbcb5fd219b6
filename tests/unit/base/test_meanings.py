from __future__ import annotations

from dataclasses import dataclass

from jukebox_core.base.meanings import meanings


@dataclass
class Base:
    """A record."""

    beside: int = 1  # beside it
    # above it,
    # in two lines
    above: int = 2
    without: int = 3


@dataclass
class Derived(Base):
    beside: int = 4  # of the derived class
    late: tuple[int, ...] = (  # on its first line
        5,
    )
    directive: int = 6


def test_meanings_are_the_comments_beside_fields_or_above_them() -> None:
    assert meanings(Base) == {"beside": "beside it", "above": "above it, in two lines"}
    assert meanings(Derived) == {
        "beside": "of the derived class",
        "above": "above it, in two lines",
        "late": "on its first line",
    }


def test_a_class_without_source_has_none() -> None:
    assert meanings(type("Made", (), {})) == {}
