"""Run settings in the form from before families of models: converted when read, and still the form that is hashed.

In that form a model's section held the parts of its network directly; now they are in ``network``, beside ``family``.
Names of runs and locks hash the earlier form where it can represent the settings, so that the same command finds the
same run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jukebox_core.family import DEFAULT_FAMILY

if TYPE_CHECKING:
    from collections.abc import Mapping

_OWN = ("name", "family", "network", "files", "trained")  # keys of a model's section today


def upgraded(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns stored settings, or a run's identity, with the model's section in the current form."""
    model = settings.get("model")
    if not isinstance(model, dict) or "network" in model:
        return dict(settings)
    network = {key: value for key, value in model.items() if key not in _OWN}
    kept = {key: value for key, value in model.items() if key in _OWN}
    return {**settings, "model": {**kept, "family": DEFAULT_FAMILY, "network": network}}


def earlier_form(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an identity in the form that is hashed: the earlier one, except for families that it cannot represent."""
    model = identity["model"]
    if model["family"] != DEFAULT_FAMILY:
        return dict(identity)
    kept = {key: value for key, value in model.items() if key not in ("family", "network")}
    return {**identity, "model": {**kept, **model["network"]}}
