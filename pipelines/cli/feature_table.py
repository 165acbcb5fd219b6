"""Folders of features as text: a table of them, and the details of one. Imports neither torch nor Prefect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jukebox_core.base.paths import user_path
from jukebox_core.base.text import format_seconds, format_table
from jukebox_core.errors import StoreError
from jukebox_core.features.config import MANIFEST

if TYPE_CHECKING:
    from pathlib import Path

    from jukebox_core.features.folder import FeatureFolder

FOLDER = "features"  # below the folder of the runs


def features_in(root: str) -> list[str]:
    """Returns the lines of the table of the features folders of `root`; none if there are none."""
    rows = [_row(folder) for folder in sorted((user_path(root) / FOLDER).glob("*")) if _is_one(folder)]
    if not rows:
        return []
    return ["", *format_table([("features", "model", "status", "done", "left out", "arrays"), *rows])]


def feature_details(name: str, root: str) -> list[str] | None:
    """Returns the lines that describe a features folder, given by name or as a folder; None if it is none.

    Raises:
        StoreError: its manifest or its index cannot be read.
    """
    for path in (user_path(root) / FOLDER / name, user_path(name)):
        if _is_one(path):
            return _details(_opened(path))
    return None


def _is_one(path: Path) -> bool:
    return (path / MANIFEST).exists()


def _opened(path: Path) -> FeatureFolder:
    from jukebox_core.features.folder import FeatureFolder

    return FeatureFolder(path)


def _row(path: Path) -> tuple[str, ...]:
    folder = _opened(path)
    try:
        manifest, (done, left_out) = folder.manifest(), _counts(folder)
    except StoreError:
        return (path.name, "", "damaged", "", "", "")
    names = manifest.get("recordings")
    wanted = len(names) if isinstance(names, list) else 0
    layers = ", ".join(str(layer) for layer in manifest.get("layers") or ())
    return (
        path.name,
        str(manifest.get("model", "")),
        str(manifest.get("status", "")),
        f"{done} of {wanted}",
        str(left_out),
        f"layers {layers}" if layers else "codes",
    )


def _counts(folder: FeatureFolder) -> tuple[int, int]:
    entries = folder.entries().values()
    return sum(entry.error is None for entry in entries), sum(entry.error is not None for entry in entries)


def _details(folder: FeatureFolder) -> list[str]:
    manifest: dict[str, Any] = folder.manifest()
    entries = folder.entries().values()
    heard = sum(entry.seconds for entry in entries if entry.error is None)
    done, left_out = _counts(folder)
    shown = ("status", "model", "dtype", "layers", "level", "width", "row_rate", "licence")
    lines = [f"features {folder.path}", *(f"  {key}: {manifest.get(key)}" for key in shown)]
    recipe = manifest.get("recipe")
    lines.append(f"  recipe: {recipe.get('name') if isinstance(recipe, dict) else None}")
    lines.append(f"  recordings: {done} finished, {format_seconds(heard)} of audio; {left_out} left out")
    return [*lines, *(f"    {entry.path}: {entry.error}" for entry in entries if entry.error is not None)]
