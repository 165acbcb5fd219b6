"""How often the progress of a window is stored: a kill at any moment loses no more tokens than the policy says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from jukebox_core.base.hashing import digest
from jukebox_core.sampling.windows import FlushPolicy, Unobserved, sample_nodes
from jukebox_core.store.store import TokenStore
from jukebox_core.tokens.graph import Node
from jukebox_core.tokens.plan import Window

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from jukebox_core.store.format import Stored

NEW = 1000


@dataclass(frozen=True)
class Drawn:
    tokens: NDArray[np.int32]
    state: bytes | None = None


@dataclass
class Counting:
    """A model that draws blocks of `block` tokens, and notes how many drawn ones a kill would have lost at most."""

    store: TokenStore
    key: str
    block: int
    drawn: int = 0
    lost: list[int] = field(default_factory=list)

    def start(self, *_: Any) -> Counting:
        return self

    def step(self) -> int | None:
        if self.drawn == NEW:
            return None
        block = min(self.block, NEW - self.drawn)
        found: Stored | None = self.store.read_partial(self.key)
        stored = 0 if found is None else found.tokens.size
        self.lost.append(self.drawn + block - stored)  # all of the block is drawn, none of it is stored
        self.drawn += block
        return block

    def save(self) -> list[Drawn]:
        return [Drawn(np.zeros(self.drawn, np.int32))]

    def results(self) -> list[NDArray[np.int32]]:
        return [np.zeros(self.drawn, np.int32)]

    def save_cache(self) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize(("flush", "block"), [(100, 8), (100, 64), (16, 8), (512, 64), (7, 8), (1, 64), (1000, 8)])
def test_a_kill_loses_no_more_tokens_than_the_policy_says(flush: int, block: int, tmp_path: Path) -> None:
    store, key = TokenStore(tmp_path), digest("window")
    model = Counting(store, key, block)
    node = Node(0, 0, Window(0, 0, NEW), {}, {}, key)
    policy = FlushPolicy(tokens=flush, seconds=3600)
    sample_nodes(lambda: model, [node], store, None, policy, Unobserved(), work=f"{flush} {block}")  # type: ignore[arg-type,return-value]
    assert max(model.lost) <= max(flush, block)
    assert max(model.lost) > max(flush, block) - block, "it is not stored more often than that needs"
    assert store.read(key).tokens.size == NEW
