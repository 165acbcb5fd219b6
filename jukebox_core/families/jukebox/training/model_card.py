"""The card of a trained Jukebox model, as Hugging Face's model cards: data, licence, steps and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jukebox_core.families.jukebox.config import CODEC, level_of
from jukebox_core.training.model_card import NOT_MEASURED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jukebox_core.families.jukebox.training.alignment_head import AlignmentHead
    from jukebox_core.training.family import FinishInputs


def model_card(inputs: FinishInputs, head: AlignmentHead | None) -> str:
    """Returns the card of a model, Markdown; `head` is its alignment head, if it has one."""
    model = inputs.base
    rate, hops = model.config.sample_rate, model.config.hops
    lines = [
        f"# {model.name}",
        "",
        f"A Jukebox model at {rate:,} Hz; {', '.join(f'{rate / hop:,.0f}' for hop in hops)} tokens a second, "
        f"bottom level first; {model.config.bins} codes a level.",
        "",
        f"- Trained on: {inputs.data}",
        f"- Licence: {inputs.licence}",
    ]
    if inputs.tuned_from is not None:
        lines.append(f"- Tuned from: {inputs.tuned_from}")
    if head is not None:
        lines.append(f"- Lyrics are followed by head {head.head} of layer {head.layer} (score {head.score:.2f})")
    lines += ["", "| part | steps | on held-out music |", "|---|---|---|"]
    for role in model.files.weights:
        part = inputs.trained.get(role)
        measured = (_metrics(role, part.metrics) or NOT_MEASURED) if part else "unchanged"
        lines.append(f"| {role} | {part.steps if part else ''} | {measured} |")
    lines += ["", "Sample from it with `jukebox generate model=<this folder>`.", ""]
    return "\n".join(lines)


def _metrics(role: str, metrics: Mapping[str, float]) -> str:
    if role == CODEC:
        chosen = {"spectral_convergence": "spectral convergence", "recons_loss": "reconstruction loss"}
        chosen |= {f"multispectral_loss_l{level}": f"level {level - 1} spectral distance" for level in (1, 2, 3)}
    else:
        chosen = {"bits": f"bits a token of level {level_of(role)}", "lyric_bits": "bits a character"}
    return ", ".join(f"{words} {metrics[name]:.3f}" for name, words in chosen.items() if name in metrics)
