"""Cards of trained models: a row for each part, with the metrics that have words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jukebox_core.models.presets import load_preset
from jukebox_core.training.family import FinishInputs, TrainedPart
from jukebox_core.training.model_card import card_of_parts

if TYPE_CHECKING:
    from pathlib import Path


def test_a_part_that_was_not_trained_is_unchanged(tmp_path: Path) -> None:
    base = load_preset("mini_vamp")
    inputs = FinishInputs(
        base=base, start_config=base.config, trained={"coarse": TrainedPart(tmp_path, 240, {"bits": 7.5, "loss": 5.0})},
        given={}, vocabularies={}, codes=tmp_path, data="ten songs", licence="mine", tuned_from=None, folder=tmp_path,
    )  # fmt: skip
    card = card_of_parts(inputs, about="A model.", metrics={"bits": "bits a token"}, use="Use it.")
    assert card.startswith("# mini_vamp\n\nA model.\n\n- Trained on: ten songs\n- Licence: mine\n")
    assert "| codec |  | unchanged |\n| coarse | 240 | bits a token 7.500 |\n| c2f |  | unchanged |\n" in card
    assert card.endswith("\n\nUse it.\n")
    assert "Tuned from" not in card


def test_a_part_without_held_out_music_says_so(tmp_path: Path) -> None:
    base = load_preset("mini_vamp")
    inputs = FinishInputs(
        base=base, start_config=base.config, trained={"coarse": TrainedPart(tmp_path, 240, {})}, given={},
        vocabularies={}, codes=tmp_path, data="ten songs", licence="mine", tuned_from="mini_vamp", folder=tmp_path,
    )  # fmt: skip
    card = card_of_parts(inputs, about="A model.", metrics={"bits": "bits a token"}, use="Use it.")
    assert "- Licence: mine\n- Tuned from: mini_vamp\n\n|" in card
    assert "| coarse | 240 | not measured: none was held out |" in card
