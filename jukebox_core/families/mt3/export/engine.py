"""An MT3 model as graphs in onnxruntime. Legend as in `graphs`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from jukebox_core.errors import ConfigError
from jukebox_core.families.mt3.export.names import ENCODER, MEMORY, START, STEP
from jukebox_core.families.mt3.model.transformer import MT3

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from jukebox_core.export.session import Session
    from jukebox_core.families.mt3.config import MT3Config, MT3Network


@dataclass(slots=True)
class GraphCache:
    """Keys and values of the source and of the tokens so far: what the graph of a step takes."""

    cross: NDArray[Any]
    past: NDArray[Any]

    def select(self, rows: Tensor) -> None:
        """Keeps the rows with these indices."""
        kept = rows.numpy()
        self.cross, self.past = self.cross[:, :, kept], self.past[:, :, kept]


class GraphMT3(MT3):
    """What transcription uses of a model: its encoder, its memory and the steps of its decoder."""

    def __init__(self, network: MT3Network, sessions: Mapping[str, Session]) -> None:
        """Takes the place of a model's weights by sessions."""
        nn.Module.__init__(self)
        self.config, self._sessions = network, sessions

    @property
    def device(self) -> torch.device:
        """Where sessions take and leave tensors, whatever computes."""
        return torch.device("cpu")

    def encode(self, frames_GFM: Tensor) -> Tensor:
        """Returns the encoded frames of each sequence, [B, F, W]."""
        return torch.from_numpy(self._sessions[ENCODER].run({"frames": frames_GFM.contiguous().numpy()})[0])

    def with_memory(self, encoded_BFW: Tensor, ids_BT: Tensor) -> Tensor:
        """Returns what the decoder reads, [B, S, W]."""
        if MEMORY not in self._sessions:
            return encoded_BFW
        return torch.from_numpy(
            self._sessions[MEMORY].run({"encoded": encoded_BFW.numpy(), "ids": ids_BT.contiguous().numpy()})[0]
        )

    def start(self, source_BSW: Tensor, rows: int | None = None) -> GraphCache:  # type: ignore[override]  # noqa: ARG002
        """Returns the cache of a batch before its first token."""
        cross = self._sessions[START].run({"source": source_BSW.contiguous().numpy()})[0]
        return GraphCache(cross, cross[:, :, :, :, :0])

    def step(self, ids_B: Tensor, cache: GraphCache) -> Tensor:  # type: ignore[override]
        """Returns the logits after one more id of each row, float32 [B, V]."""
        given = {"ids": ids_B.numpy(), "past": cache.past, "cross": cache.cross}
        logits_BV, cache.past = self._sessions[STEP].run(given)
        return torch.from_numpy(logits_BV)


def check_has_encoder(config: MT3Config) -> None:
    """Checks that a model's encoder has a graph.

    Raises:
        ConfigError: it is a Perceiver.
    """
    if config.network.perceiver is not None:
        raise ConfigError(f"model {config.name} has no graph of its encoder, a Perceiver; choose hardware.engine=auto")
