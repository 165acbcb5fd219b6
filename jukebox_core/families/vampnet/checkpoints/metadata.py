"""Sizes of a network as its file states them: the arguments of upstream's constructor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from jukebox_core.errors import CheckpointError, ConfigError
from jukebox_core.families.vampnet.config import CodecConfig, TransformerConfig

if TYPE_CHECKING:
    from jukebox_core.models.checkpoints.checkpoint import Checkpoint

_Sizes = TypeVar("_Sizes", CodecConfig, TransformerConfig)

# Arguments of upstream's transformer whose other values make another network: the only values that are read.
_FIXED: dict[str, tuple[Any, ...]] = {
    "r_cond_dim": (0,),
    "cond_dim": (0,),
    "ctrl_dims": (None, {}),
    "flash_attn": (False, None),
    "noise_mode": ("mask",),
}


def codec_config(checkpoint: Checkpoint) -> CodecConfig:
    """Returns the sizes of a codec, from its file.

    Raises:
        CheckpointError: the file states none, or impossible ones.
    """
    return _structured(checkpoint, CodecConfig, _kwargs(checkpoint))


def transformer_config(checkpoint: Checkpoint) -> TransformerConfig:
    """Returns the sizes of a transformer, from its file.

    Raises:
        CheckpointError: the file states none, impossible ones, or a variant that is not built here.
    """
    kwargs = _kwargs(checkpoint)
    named_as_flash = any("flash" in name for name in checkpoint.tensors)
    for name, allowed in _FIXED.items():
        # Upstream's default of `flash_attn` is true, where the tensors then have other names.
        if name in kwargs and kwargs[name] not in allowed and (name != "flash_attn" or named_as_flash):
            raise CheckpointError(
                f"{checkpoint.path} is a transformer with {name}={kwargs[name]!r}; only "
                f"{' or '.join(repr(value) for value in allowed)} can be read, so choose another file"
            )
    return _structured(checkpoint, TransformerConfig, kwargs)


def _kwargs(checkpoint: Checkpoint) -> Mapping[str, Any]:
    kwargs = checkpoint.metadata.get("kwargs")
    if not isinstance(kwargs, Mapping):
        raise CheckpointError(
            f"{checkpoint.path} does not state its sizes (metadata.kwargs); it is no file of VampNet, choose another"
        )
    return kwargs


def _structured(checkpoint: Checkpoint, kind: type[_Sizes], kwargs: Mapping[str, Any]) -> _Sizes:
    names = {field.name for field in fields(kind)}
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in kwargs.items() if name in names
    }
    try:
        return kind(**given)
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"{checkpoint.path} states impossible sizes: {error}; fetch it again") from error
