"""Upstream's generator at the start of a chunk, for runs with parity.

Upstream seeds its generator again for each chunk of the coarse model, and never for those of the coarse-to-fine model,
whose noise goes on where the last coarse chunk stopped. What was drawn before a chunk is drawn again here, without the
networks, so that chunks do not depend on the process that samples them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from jukebox_core.families.vampnet.config import C2F, COARSE
from jukebox_core.families.vampnet.sampling.noise import GeneratorGridNoise, GridSize

if TYPE_CHECKING:
    from jukebox_core.families.vampnet.config import VampNetConfig
    from jukebox_core.families.vampnet.sampling.config import PassConfig, VampSampling
    from jukebox_core.tokens.graph import Node


def generator_of(node: Node, config: VampNetConfig, sampling: VampSampling) -> torch.Generator:
    """Returns the generator before the first pass of a chunk; each variation is a batch of one, with its own seed."""
    generator = torch.Generator().manual_seed((sampling.seed + node.sample) % 2**63)
    before = node.causes.get("before")
    if before is not None:
        coarse, fine = before["chunks"]
        last = (before["total"] - 1) % coarse + 1
        _skip(generator, config, COARSE, last, sampling.coarse)
        for _ in range(node.window.start // fine):
            _skip(generator, config, C2F, fine, sampling.c2f)
    return generator


def _skip(generator: torch.Generator, config: VampNetConfig, role: str, steps: int, passes: PassConfig) -> None:
    """Draws the noise of a chunk."""
    sizes, noise = config.sizes(role), GeneratorGridNoise(generator)
    size = GridSize(1, steps, sizes.n_predicted, sizes.vocab_size)
    for done in range(passes.steps):
        noise.draw(done, size, tokens=passes.draws(done, parity=True))
