"""The card of a trained VampNet model, as Hugging Face's model cards: data, licence, steps and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jukebox_core.training.model_card import card_of_parts

if TYPE_CHECKING:
    from jukebox_core.families.vampnet.config import VampNetNetwork
    from jukebox_core.training.family import FinishInputs

_WORDS = {"si_sdr": "SI-SDR in dB", "mel": "distance of mel bands", "bits": "bits a masked token"}


def model_card(inputs: FinishInputs) -> str:
    """Returns the card of a model, Markdown."""
    network: VampNetNetwork = inputs.base.network
    codec = network.codec
    bits = (codec.codebook_size - 1).bit_length() * codec.n_codebooks
    fine = network.c2f
    return card_of_parts(
        inputs,
        about=f"A VampNet model at {codec.sample_rate:,} Hz: {codec.sample_rate / codec.hop:.1f} tokens a second in "
        f"each of {codec.n_codebooks} codebooks of {codec.codebook_size}, {bits * codec.sample_rate / codec.hop:,.0f} "
        f"bits a second; a coarse transformer of {network.coarse.n_layers} layers of width "
        f"{network.coarse.embedding_dim} makes {network.coarse.n_codebooks} codebooks"
        + (f", and one of {fine.n_layers} layers of width {fine.embedding_dim} the others." if fine else "."),
        metrics=_WORDS,
        use="Vary recordings with it: `load_model(<this folder>).vamp(...)` in Python.",
    )
