"""Settings as runs kept them before there were families of models: read as today's, and hashed as then.

Then a model's section held the parts of its network directly; now they lie in ``network``, beside ``family``. Names of
runs and of locks hash the earlier form wherever it can say the same, so that the same command finds the same run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jukebox_core.family import DEFAULT_FAMILY

if TYPE_CHECKING:
    from collections.abc import Mapping

_OWN = ("name", "family", "network", "files", "trained")  # keys of a model's section today


def upgraded(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns stored settings, or a run's identity, with its model's section as it is today."""
    model = settings.get("model")
    if not isinstance(model, dict) or "network" in model:
        return dict(settings)
    network = {key: value for key, value in model.items() if key not in _OWN}
    kept = {key: value for key, value in model.items() if key in _OWN}
    return {**settings, "model": {**kept, "family": DEFAULT_FAMILY, "network": network}}


def earlier_form(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an identity as it was hashed before there were families; that of another family as it is."""
    model = identity["model"]
    if model["family"] != DEFAULT_FAMILY:
        return dict(identity)
    kept = {key: value for key, value in model.items() if key not in ("family", "network")}
    return {**identity, "model": {**kept, **model["network"]}}
