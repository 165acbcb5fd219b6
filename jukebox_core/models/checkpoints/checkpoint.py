"""Opens checkpoints without reading them and puts their tensors into a module, one by one.

Three formats, distinguished by content: torch's zip (`archive.py`), torch's older sequence of pickles (`legacy.py`)
and safetensors. All are mapped into memory tensor by tensor, none can run code. A pickle holds a dict of tensors, or
one with such a dict: OpenAI's ``{model, hps, step, opt}`` (docs/upstream.md, Hyperparameters), Lightning's
``{state_dict, ...}`` and audiotools' ``{state_dict, metadata}``.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from jukebox_core.base.atomic import atomic_write
from jukebox_core.errors import CheckpointError
from jukebox_core.models.checkpoints.archive import read_archive
from jukebox_core.models.checkpoints.legacy import read_legacy
from jukebox_core.models.checkpoints.mapped import ForbiddenNameError, LazyTensor, MappedTensors, OpenFile
from jukebox_core.models.checkpoints.names import renamed, tied_groups
from jukebox_core.models.download.replies import is_web_page
from jukebox_core.runtime.finite import copy_finite, what_is_not_finite

CastRule = Callable[[str, Tensor], torch.dtype | None]
"""Returns the dtype that a tensor is converted to on loading, from its name in the module; None: as stored."""

_WRAPPER_PREFIX = re.compile(r"(?:module\.|_orig_mod\.)*")  # added by data-parallel and compiled training
_OWN_NAMES = "jukebox_own_names"  # marks a safetensors file that needs no renames
_SMALL = 1 << 24  # bytes of a file that may stay in memory until all its tensors are read
_DESCRIBED = ("name", "level", "levels", "n_ctx", "width", "depth", "l_bins", "labels_v3")  # ends of names
_NAMED_AT_MOST = 5
_SAFETENSORS_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that was opened but not read: each tensor is mapped when it is accessed, until it is dropped."""

    path: Path
    tensors: Mapping[str, Tensor]  # by name in the file, any prefix of a wrapper (`module.`, `_orig_mod.`) removed
    metadata: Mapping[str, Any]  # OpenAI's files: hps; audiotools': metadata; safetensors: as in `save_safetensors`
    step: int | None = None  # training steps, where the file states them
    own_names: bool = False  # written by `save_safetensors`: names are the module's already

    def describe(self) -> str:
        """Returns the names of its parts and its hyperparameters, for an error message."""
        sizes = {key: value for key, value in self.metadata.items() if key.endswith(_DESCRIBED)}
        stated = [f"{key}={value!r}" for key, value in sizes.items() if value not in (None, "")]
        parts = sorted({name.split(".", 1)[0] for name in self.tensors})
        return f"its tensors belong to {_some(parts)}; its hyperparameters say {', '.join(stated) or 'nothing'}"


class _PrefixFree(Mapping[str, Tensor]):
    """Tensors under names without the prefixes of wrappers, still made one at a time."""

    def __init__(self, path: Path, get: Callable[[str], Tensor], names: Iterable[str]) -> None:
        self._get = get
        self._names: dict[str, str] = {}
        for name in names:
            short = _WRAPPER_PREFIX.sub("", name, count=1)
            if short in self._names:
                raise CheckpointError(f"{path} holds {short} twice, also as {name}; keep one of them")
            self._names[short] = name

    def __getitem__(self, name: str) -> Tensor:
        return self._get(self._names[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Returns the checkpoint at `path`, mapped: no tensor is read yet and no code in the file is ever run.

    Raises:
        CheckpointError: the file is missing, empty, truncated, no checkpoint at all (a web page, a text), a pickle
            that names code, or a torch file of another structure.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist; fetch the model first or correct the path") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}; give the path of a checkpoint file") from error
    _refuse_other_files(path, head)
    if head[8:9] == b"{":  # after the length of its header, which may begin like any other file
        return _open_safetensors(path)
    if head.startswith(b"PK"):
        return _open_zip(path)
    if head.startswith(b"\x80"):
        return _open_legacy(path)
    return _open_safetensors(path)


def load_into(
    module: nn.Module,
    checkpoint: Checkpoint,
    renames: Sequence[tuple[str, str]] = (),
    *,
    cast: CastRule | None = None,
    device: torch.device | str | None = None,
    placed: Callable[[str], None] | None = None,
    only: Callable[[str], bool] | None = None,
    label: str = "a module",
) -> None:
    """Loads the checkpoint's tensors into `module`, which may be on the meta device.

    Tensors are copied one by one from the mapped file, whose pages are freed at once: at most one tensor is in memory
    twice. A stored dtype is kept unless `cast` names another. Tied tensors may be in the file under one of their names
    or all of them.

    Args:
        module: receives the tensors, as parameters and buffers.
        checkpoint: from `open_checkpoint`.
        renames: ``(pattern, replacement)`` pairs; the first pattern that fully matches a name in the file gives the
            module's name; a name without a match is left over. Without pairs, names are used as they are.
        cast: chooses the dtype of each tensor.
        device: where tensors go; None leaves them in main memory.
        placed: called with the name of the module that received a tensor, before the next one is read.
        only: chooses tensors by their (first) name in the module; others are checked but not read.
        label: names the module in messages.

    Raises:
        CheckpointError: names are missing or left over, shapes disagree, or tied tensors differ. All faults are
            found before the first tensor is assigned, and are in one message. Or a tensor holds numbers that are not
            finite, also after its conversion; it and the ones after it are not assigned.
    """
    targets = module.state_dict(keep_vars=True)
    for names, stored in _match(checkpoint, targets, () if checkpoint.own_names else renames):
        if only is not None and not only(names[0]):
            continue
        stored_tensor = checkpoint.tensors[stored]
        dtype = cast(names[0], stored_tensor) if cast else None
        loaded = torch.empty_like(stored_tensor, dtype=dtype, device=device)
        if not copy_finite(stored_tensor, loaded):
            raise CheckpointError(
                f"{checkpoint.path}: tensor {stored} of {label} {what_is_not_finite(stored_tensor, loaded.dtype)}"
            )
        del stored_tensor  # and its pages, before the next tensor is mapped
        target = targets[names[0]]
        if isinstance(target, nn.Parameter):
            loaded = nn.Parameter(loaded, requires_grad=target.requires_grad and loaded.is_floating_point())
        for name in names:
            owner, _, attribute = name.rpartition(".")
            setattr(module.get_submodule(owner), attribute, loaded)
        del loaded
        if placed is not None:
            placed(names[0].rpartition(".")[0])


def save_safetensors(
    state: nn.Module | Mapping[str, Tensor],
    path: str | Path,
    metadata: Mapping[str, Any] | None = None,
    *,
    own_names: bool = True,
) -> None:
    """Writes weights and `metadata`, as JSON, to a safetensors file; atomic.

    Tensors are written one by one. Of tied tensors the first name is written. With `own_names`, names are those of a
    module of this program, and `load_into` needs no renames.
    """
    path = Path(path)
    tensors: Mapping[str, Tensor] = state.state_dict(keep_vars=True) if isinstance(state, nn.Module) else state
    # A mapping that reads a file returns a new tensor each time, so that only those of a dict can be tied.
    names = [group[0] for group in tied_groups(tensors)] if isinstance(tensors, dict) else list(tensors)
    known = {name: traits(tensors[name]) for name in names}
    # Wide elements first keeps every tensor aligned to its element size, as readers that map the file expect.
    kept = sorted(names, key=lambda name: -known[name][2])
    texts = {key: json.dumps(value, default=str) for key, value in (metadata or {}).items()}
    header: dict[str, Any] = {"__metadata__": texts | ({_OWN_NAMES: "true"} if own_names else {})}
    position = 0
    for name in kept:
        dtype, shape, width = known[name]
        end = position + math.prod(shape) * width
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, end]}
        position = end
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with atomic_write(path) as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for name in kept:
            flat = tensors[name].detach().cpu().contiguous().reshape(-1)
            file.write(flat.view(torch.uint8).numpy().data)


def matched_names(module: nn.Module, checkpoint: Checkpoint, renames: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Returns the checkpoint's name for each tensor of `module`, by the module's; of tied tensors the first name.

    Raises:
        CheckpointError: as `load_into`.
    """
    return {names[0]: stored for names, stored in _match(checkpoint, module.state_dict(keep_vars=True), renames)}


def traits(tensor: Tensor) -> tuple[str, list[int], int]:
    """Returns dtype by its name in safetensors, shape, and bytes of an element."""
    return _SAFETENSORS_DTYPES[tensor.dtype], list(tensor.shape), tensor.element_size()


def _refuse_other_files(path: Path, head: bytes) -> None:
    if not head:
        raise CheckpointError(f"{path} is empty; delete it and fetch it again")
    if is_web_page(head):
        raise CheckpointError(f"{path} is a web page, not a checkpoint; its source answered with an error page")
    if all(byte >= 0x20 or byte in b"\t\n\r\f" for byte in head):
        first = head.splitlines()[0][:60].decode(errors="replace") if head.strip() else ""
        raise CheckpointError(f"{path} is a text file that begins {first!r}, not a checkpoint; fetch it again")


def _open_zip(path: Path) -> Checkpoint:
    try:
        content, file = read_archive(path)
    except ForbiddenNameError as error:
        raise _unsafe(path, str(error)) from error
    except CheckpointError:
        raise
    except Exception as error:  # a damaged zip or pickle can raise nearly anything
        raise CheckpointError(
            f"{path} is truncated or no archive of torch ({path.stat().st_size:,} bytes); fetch it again"
        ) from error
    return _upstream_checkpoint(path, content, file)


def _open_legacy(path: Path) -> Checkpoint:
    try:
        content, file = read_legacy(path)
    except ForbiddenNameError as error:
        raise _unsafe(path, str(error)) from error
    except CheckpointError:
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise CheckpointError(f"{path} is a pickle but not a checkpoint of torch; fetch it again") from error
    return _upstream_checkpoint(path, content, file)


def _open_safetensors(path: Path) -> Checkpoint:
    try:
        file: Any = safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is no checkpoint of torch and no whole safetensors file ({error}); fetch it again"
        ) from error
    texts = dict(file.metadata() or {})
    own_names = texts.pop(_OWN_NAMES, None) is not None
    metadata = {key: _from_json(text) for key, text in texts.items()}

    def get(name: str) -> Tensor:
        if small:
            whole: Tensor = file.get_tensor(name)
            return whole
        with safe_open(path, framework="pt") as opened:  # a new mapping: that of the last tensor is released
            tensor: Tensor = opened.get_tensor(name)
            return tensor

    small = path.stat().st_size <= _SMALL
    step = metadata.pop("step", None)
    tensors = _PrefixFree(path, get, file.keys())
    return Checkpoint(path, tensors, metadata, step if isinstance(step, int) else None, own_names=own_names)


def _named_weights(path: Path, content: Any) -> dict[str, LazyTensor]:
    key = _weights_key(content)
    if key is None:
        found = f"a dict of {_some([str(key) for key in content])}" if isinstance(content, Mapping) else type(content)
        raise CheckpointError(
            f"{path} holds {found}; a checkpoint is a dict of tensors, or one with such a dict as model (OpenAI) or "
            "state_dict (Lightning)"
        )
    weights = dict(content[key] if key else content)
    strange = [
        str(name) for name, value in weights.items() if not isinstance(value, LazyTensor) or not isinstance(name, str)
    ]
    if strange or not weights:
        raise CheckpointError(
            f"{path}: {key!r} holds {_some(strange) or 'nothing'}; in a checkpoint it holds only named tensors"
        )
    return weights


def _weights_key(content: Any) -> str | None:
    """Returns the key of the weights in the object of a pickle, "" if it is the weights, None if it has none."""
    if not isinstance(content, Mapping):
        return None
    nested = [key for key in ("model", "state_dict") if isinstance(content.get(key), Mapping)]
    if nested:
        return nested[0]
    return "" if content and all(isinstance(value, LazyTensor) for value in content.values()) else None


def _upstream_checkpoint(path: Path, content: Any, file: OpenFile) -> Checkpoint:
    weights = MappedTensors(file, _named_weights(path, content))
    stated, step = content.get("hps", content.get("metadata")), content.get("step")
    return Checkpoint(
        path,
        _PrefixFree(path, weights.__getitem__, weights),
        dict(stated) if isinstance(stated, Mapping) else {},
        step if isinstance(step, int) else None,
    )


def _match(
    checkpoint: Checkpoint, targets: Mapping[str, Tensor], renames: Sequence[tuple[str, str]]
) -> list[tuple[list[str], str]]:
    """Returns each tensor's names in the module and its name in the checkpoint; one error for all mismatches."""
    found, left_over = renamed(checkpoint.tensors, targets, renames)
    matches: list[tuple[list[str], str]] = []
    missing, misshapen, untied = [], [], []
    for names in tied_groups(targets):
        stored = [each for name in names for each in found.get(name, ())]
        if not stored:
            missing.append(names[0])
            continue
        matches.append((names, stored[0]))
        tensors = [checkpoint.tensors[each] for each in stored]
        shape = targets[names[0]].shape
        misshapen += [
            f"{each} is {list(tensor.shape)} but {names[0]} is {list(shape)}"
            for each, tensor in zip(stored, tensors, strict=True)
            if tensor.shape != shape
        ]
        if not all(torch.equal(tensors[0], other) for other in tensors[1:]):
            untied.append(" and ".join(stored))
    faults = {"missing": missing, "left over": left_over, "of another shape": misshapen, "tied but different": untied}
    lines = [f"{len(names)} {fault}: {_some(names)}" for fault, names in faults.items() if names]
    if lines:
        raise CheckpointError(
            f"{checkpoint.path} is not a checkpoint of this model: {'; '.join(lines)}. Of the file: "
            f"{checkpoint.describe()}. Choose the file or the configuration that matches"
        )
    return matches


def _unsafe(path: Path, name: str) -> CheckpointError:
    what = "it holds objects of numpy" if name.startswith("numpy.") else "it holds code"
    return CheckpointError(
        f"{path} is a pickle that names {name}: {what}, and nothing of it was run; use a file from a source you "
        "trust that holds tensors and plain data only"
    )


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more:,} more" if more > 0 else "")
