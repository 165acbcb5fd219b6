"""Names of tensors: those of a file by those of a module, and names that share one tensor."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import Tensor


def renamed(
    stored_names: Iterable[str], targets: Mapping[str, Tensor], renames: Sequence[tuple[str, str]]
) -> tuple[dict[str, list[str]], list[str]]:
    """Returns the file's names by the module's name, and those without one."""
    table = [(re.compile(pattern), replacement) for pattern, replacement in renames] or [(re.compile(".*"), r"\g<0>")]
    found: dict[str, list[str]] = defaultdict(list)
    left_over = []
    for stored in stored_names:
        matches = ((pattern.fullmatch(stored), replacement) for pattern, replacement in table)
        name = next((match.expand(replacement) for match, replacement in matches if match), None)
        if name is not None and name in targets:
            found[name].append(stored)
        else:
            left_over.append(stored)
    return found, left_over


def tied_groups(tensors: Mapping[str, Tensor]) -> list[list[str]]:
    """Returns names grouped by tensor, in order: tensors with the same memory are one group."""
    groups: dict[Any, list[str]] = defaultdict(list)
    for name, tensor in tensors.items():
        memory = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        groups[id(tensor) if tensor.is_meta or not tensor.numel() else memory].append(name)
    return list(groups.values())
