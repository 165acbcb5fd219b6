"""The card of a trained MT3 model, as Hugging Face's model cards: data, licence, steps and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jukebox_core.training.model_card import card_of_parts

if TYPE_CHECKING:
    from jukebox_core.families.mt3.config import MT3Network
    from jukebox_core.training.family import FinishInputs


def model_card(inputs: FinishInputs) -> str:
    """Returns the card of a model, Markdown."""
    network: MT3Network = inputs.base.network
    front_end, sizes = network.front_end, network.transformer
    seconds = front_end.segment_samples / front_end.sample_rate
    return card_of_parts(
        inputs,
        about=f"A model of the MT3 kind at {front_end.sample_rate:,} Hz: segments of {seconds:g} s, "
        f"{network.vocabulary.steps_per_second} steps a second, {sizes.encoder_depth} + {sizes.decoder_depth} layers "
        f"of width {sizes.width}.",
        metrics={"nats": "nats per id", "right": "share of ids that are right"},
        use="Transcribe with `jukebox transcribe model=<this folder>`.",
    )
