"""The card of a trained MT3 model, as Hugging Face's model cards: data, licence, steps and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jukebox_core.families.mt3.config import MT3Network
    from jukebox_core.training.family import FinishInputs


def model_card(inputs: FinishInputs) -> str:
    """Returns the card of a model, Markdown."""
    model = inputs.base
    network: MT3Network = model.network
    front_end, sizes = network.front_end, network.transformer
    seconds = front_end.segment_samples / front_end.sample_rate
    lines = [
        f"# {model.name}",
        "",
        f"A model of the MT3 kind at {front_end.sample_rate:,} Hz: segments of {seconds:g} s, "
        f"{network.vocabulary.steps_per_second} steps a second, {sizes.encoder_depth} + {sizes.decoder_depth} layers "
        f"of width {sizes.width}.",
        "",
        f"- Trained on: {inputs.data}",
        f"- Licence: {inputs.licence}",
        "",
        "| part | steps | on held-out music |",
        "|---|---|---|",
    ]
    for role in model.files.weights:
        part = inputs.trained.get(role)
        words = {"nats": "nats per id", "right": "share of ids that are right"}
        found = [f"{word} {part.metrics[name]:.3f}" for name, word in words.items() if part and name in part.metrics]
        lines.append(f"| {role} | {part.steps if part else ''} | {', '.join(found) if part else 'unchanged'} |")
    lines += ["", "Transcribe with `jukebox transcribe model=<this folder>`.", ""]
    return "\n".join(lines)
