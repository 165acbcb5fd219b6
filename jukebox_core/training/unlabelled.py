"""What a `TrainableFamily` has whose models are not conditioned on labels. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from jukebox_core.base.checks import require

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from jukebox_core.datasets.songs import Song


@dataclass(frozen=True, kw_only=True, slots=True)
class NoLabels:
    """The section ``labels``, which is empty; a family derives its own, with its name."""

    family: ClassVar[str]

    artists: dict[str, str | None] = field(default_factory=dict)  # as in {me: null, my band: the beatles}
    genres: dict[str, str | None] = field(default_factory=dict)  # likewise

    def __post_init__(self) -> None:
        """Checks that there are none."""
        require(
            not self.artists and not self.genres,
            f"labels are set, but models of the family {self.family} know no artists and genres; remove them",
        )

    @property
    def is_empty(self) -> bool:
        """True: no label is added."""
        return True


class Unlabelled:
    """The methods of a `TrainableFamily` that concern labels."""

    def check_labels(self, config: Any, vocabularies: Mapping[str, Path], songs: Sequence[Song]) -> None:
        """Checks nothing: these models are not conditioned on labels."""

    def add_labels(
        self, config: Any, network: Any, labels: Any, vocabularies: Mapping[str, Path], folder: Path
    ) -> tuple[Any, Mapping[str, Path]]:
        """Returns the network as it is."""
        return network, {}
