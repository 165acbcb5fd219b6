"""Codes files: the tokens of one piece of music, one array a level, in numpy's .npz."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jukebox_core.base.atomic import atomic_write
from jukebox_core.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

_ABOUT = "about"  # the array with the JSON text


@dataclass(frozen=True, slots=True)
class Codes:
    """The tokens of one piece of music."""

    levels: Mapping[int, NDArray[np.int32]]  # by level: [time], each in [0, bins)
    about: Mapping[str, Any]  # model, digest of the VQ-VAE's weights, sample rate, hops


def write_codes(path: Path, codes: Codes) -> None:
    """Writes a codes file, atomically: arrays ``level_<l>`` int32 [time], and ``about``, a JSON text."""
    arrays: dict[str, Any] = {f"level_{level}": np.asarray(tokens, np.int32) for level, tokens in codes.levels.items()}
    arrays[_ABOUT] = np.array(json.dumps(dict(codes.about)))
    with atomic_write(path) as file:
        np.savez_compressed(file, **arrays)


def read_codes(path: Path) -> Codes:
    """Returns the content of a codes file.

    Raises:
        StoreError: the file is missing, or is not a codes file.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            about = json.loads(str(arrays[_ABOUT]))
            levels = {int(name[6:]): arrays[name] for name in arrays.files if name.startswith("level_")}
    except FileNotFoundError:
        raise StoreError(f"codes file {path} does not exist; `jukebox encode` makes one") from None
    except (EOFError, ValueError, KeyError, zipfile.BadZipFile):
        raise StoreError(f"{path} is not a codes file; `jukebox encode` makes one") from None
    except OSError as error:
        raise StoreError(f"codes file {path} cannot be read ({error.strerror}); give one that can") from None
    return Codes(levels, about)
