"""The card of a trained model, as Hugging Face's model cards: data, licence, steps and metrics. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jukebox_core.training.family import FinishInputs

NOT_MEASURED = "not measured: none was held out"


def card_of_parts(inputs: FinishInputs, *, about: str, metrics: Mapping[str, str], use: str) -> str:
    """Returns the card of a model, Markdown: a table with a row for each part.

    Args:
        inputs: of the last step of the training.
        about: what the model is, a sentence or two.
        metrics: words for the metrics that are shown, by name.
        use: how the model is used, a sentence.
    """
    lines = [f"# {inputs.base.name}", "", about, "", f"- Trained on: {inputs.data}", f"- Licence: {inputs.licence}"]
    if inputs.tuned_from is not None:
        lines.append(f"- Tuned from: {inputs.tuned_from}")
    lines += ["", "| part | steps | on held-out music |", "|---|---|---|"]
    for role in inputs.base.files.weights:
        part = inputs.trained.get(role)
        found = [
            f"{words} {part.metrics[name]:.3f}" for name, words in metrics.items() if part and name in part.metrics
        ]
        measured = (", ".join(found) or NOT_MEASURED) if part else "unchanged"
        lines.append(f"| {role} | {part.steps if part else ''} | {measured} |")
    return "\n".join([*lines, "", use, ""])
