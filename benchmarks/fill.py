"""Fast random weights: a repeated pattern, as speed does not depend on the values of weights."""

from __future__ import annotations

import torch


@torch.no_grad()
def fill(module: torch.nn.Module, std: float = 0.02) -> None:
    """Fills matrices from a normal distribution, biases with zeros and weights of norms with ones."""
    pattern = torch.randn(1_000_003, generator=torch.Generator().manual_seed(0)) * std
    for name, parameter in module.named_parameters():
        if parameter.dim() == 1:
            parameter.fill_(1.0 if name.endswith("weight") else 0.0)
            continue
        flat = parameter.view(-1)
        for start in range(0, len(flat), len(pattern)):
            piece = flat[start : start + len(pattern)]
            piece.copy_(pattern[: len(piece)])
