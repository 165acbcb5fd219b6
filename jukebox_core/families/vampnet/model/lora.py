"""Linear layers with low-rank updates (LoRA), which fine-tunes train and which are merged for sampling."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class LoRALinear(nn.Module):
    """A linear layer without bias, and perhaps an update of rank R: x W^T + (x A^T) B^T / R.

    Args:
        inputs: width of the input.
        outputs: width of the output.
        rank: R; 0 is a plain linear layer.
    """

    lora_A: nn.Parameter | None
    lora_B: nn.Parameter | None

    def __init__(self, inputs: int, outputs: int, rank: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        self.register_parameter("lora_A", None)
        self.register_parameter("lora_B", None)
        if rank:
            self.lora_A = nn.Parameter(torch.empty(rank, inputs))
            self.lora_B = nn.Parameter(torch.zeros(outputs, rank))
            nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def forward(self, x_BTI: Tensor) -> Tensor:
        """Returns [B, T, outputs]."""
        y_BTO = functional.linear(x_BTI, self.weight)
        if self.lora_A is None or self.lora_B is None:
            return y_BTO
        update_BTO = functional.linear(functional.linear(x_BTI, self.lora_A), self.lora_B)
        return y_BTO + update_BTO / len(self.lora_A)

    @torch.no_grad()
    def merge(self) -> None:
        """Adds the update to the weight, and removes it."""
        if self.lora_A is not None and self.lora_B is not None:
            self.weight.add_(self.lora_B @ self.lora_A, alpha=1 / len(self.lora_A))
            self.lora_A = self.lora_B = None


def merge_lora(model: nn.Module) -> None:
    """Merges every low-rank update of a model into its weights."""
    for module in model.modules():
        if isinstance(module, LoRALinear):
            module.merge()


def train_only_lora(model: nn.Module) -> list[str]:
    """Excludes all parameters but low-rank updates from training; returns the names of these."""
    names = []
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_lora(name))
        if is_lora(name):
            names.append(name)
    return names


def is_lora(name: str) -> bool:
    """Whether a tensor belongs to a low-rank update."""
    return name.endswith((".lora_A", ".lora_B"))
