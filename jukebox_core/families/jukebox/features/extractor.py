"""A prior behind the door as a `jukebox_core.protocols.FeatureExtractor`: windows of codes to activations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from jukebox_core.families.jukebox.features.activations import layer_outputs
from jukebox_core.families.jukebox.features.lyric_prefix import LyricPrefixes
from jukebox_core.features.config import FINAL, layer_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from jukebox_core.families.jukebox.model.prior import Condition, Prior
    from jukebox_core.protocols import WindowConditioning
    from jukebox_core.runtime.config import HardwareConfig


@dataclass(frozen=True, slots=True)
class PriorExtractor:
    """The first layers of the prior of one level."""

    prior: Prior
    prefixes: LyricPrefixes = field(init=False)

    def __post_init__(self) -> None:
        """Prepares the lyric positions that windows share, in every layer that the prior has."""
        object.__setattr__(self, "prefixes", LyricPrefixes(self.prior, len(self.prior.body.transformer.typed_blocks)))

    @torch.inference_mode()
    def activations(
        self,
        codes: NDArray[np.integer[Any]],
        conditioning: WindowConditioning,
        layers: Sequence[int],
        *,
        final: bool,
    ) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yields name and activations of each layer, [batch, tokens, width]: float16 if computed so, else float32."""
        device = self.prior.body.position_PW.device
        codes_BT = torch.from_numpy(np.ascontiguousarray(codes, np.int64)).to(device)
        condition = window_condition(self.prior, conditioning, device)
        prefix = self.prefixes.of(conditioning.labels, condition)
        for found in layer_outputs(self.prior, codes_BT, condition, layers, final=final, prefix=prefix):
            x_BTW = found.x_BTW if found.x_BTW.dtype is torch.float16 else found.x_BTW.float()
            yield FINAL if found.is_final else layer_name(found.layer), x_BTW.cpu().numpy()


def window_engine(hardware: HardwareConfig, device: torch.device) -> str:
    """Returns the engine that is fastest for whole windows, which are long matrix products, where the user names none.

    On CUDA it is plain torch: there are few launches. On a CPU without 512-bit vectors it is plain torch too, in all
    precisions but int8: its products in float32, with weights that are converted at each use, take half the time of
    the kernels'.
    """
    if device.type != "cpu":
        return "eager"
    narrow = torch.backends.cpu.get_cpu_capability() != "AVX512"
    return "eager" if hardware.engine == "auto" and hardware.dtype != "int8" and narrow else hardware.engine


def keep_float32(prior: Prior) -> Prior:
    """Returns the prior, changed in place to compute in float32 with the weights that it has."""
    prior.compute_dtype = torch.float32
    return prior


def window_condition(prior: Prior, conditioning: WindowConditioning, device: torch.device) -> Condition:
    """Returns the conditioning of a batch of windows; windows of the same labels share one computation."""
    rows_BN = torch.tensor(list(conditioning.labels), dtype=torch.int64, device=device)
    above_BU: Tensor | None = None
    if conditioning.above is not None:
        above_BU = torch.from_numpy(np.ascontiguousarray(conditioning.above, np.int64)).to(device)
    if above_BU is None and bool((rows_BN == rows_BN[:1]).all()):
        return prior.condition(rows_BN[:1]).expand(len(rows_BN))
    return prior.condition(rows_BN, above_BU)
