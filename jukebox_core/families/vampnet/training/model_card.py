"""The card of a trained VampNet model, as Hugging Face's model cards: data, licence, steps and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jukebox_core.families.vampnet.config import VampNetNetwork
    from jukebox_core.training.family import FinishInputs

_WORDS = {"si_sdr": "SI-SDR in dB", "mel": "distance of mel bands", "bits": "bits a masked token"}


def model_card(inputs: FinishInputs) -> str:
    """Returns the card of a model, Markdown."""
    model = inputs.base
    network: VampNetNetwork = model.network
    codec = network.codec
    bits = (codec.codebook_size - 1).bit_length() * codec.n_codebooks
    fine = network.c2f
    lines = [
        f"# {model.name}",
        "",
        f"A VampNet model at {codec.sample_rate:,} Hz: {codec.sample_rate / codec.hop:.1f} tokens a second in each of "
        f"{codec.n_codebooks} codebooks of {codec.codebook_size}, {bits * codec.sample_rate / codec.hop:,.0f} bits a "
        f"second; a coarse transformer of {network.coarse.n_layers} layers of width {network.coarse.embedding_dim} "
        f"makes {network.coarse.n_codebooks} codebooks"
        + (f", and one of {fine.n_layers} layers of width {fine.embedding_dim} the others." if fine else "."),
        "",
        f"- Trained on: {inputs.data}",
        f"- Licence: {inputs.licence}",
        "",
        "| part | steps | on held-out music |",
        "|---|---|---|",
    ]
    for role in model.files.weights:
        part = inputs.trained.get(role)
        found = [f"{word} {part.metrics[name]:.3f}" for name, word in _WORDS.items() if part and name in part.metrics]
        lines.append(f"| {role} | {part.steps if part else ''} | {', '.join(found) if part else 'unchanged'} |")
    lines += ["", "Vary recordings with it: `load_model(<this folder>).vamp(...)` in Python.", ""]
    return "\n".join(lines)
