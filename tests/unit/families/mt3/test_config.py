from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jukebox_core.errors import ConfigError
from jukebox_core.families.mt3.config import (
    FrontEndConfig,
    MemoryConfig,
    MT3Config,
    TranscriptionConfig,
    TransformerConfig,
    VocabularyConfig,
)
from jukebox_core.family import Family, open_family, open_transcribing
from jukebox_core.models import catalogue
from jukebox_core.models.presets import load_preset, option_names

OFFERED = {
    "approximate_parameters", "check_file", "config", "files_of", "initialise", "initialise_causes", "open_api",
    "role_of", "roles", "split", "training",
}  # fmt: skip
EMBEDDED = "mini_mt3"
OF_THE_FAMILY = [
    name for name in option_names("model") if load_preset(name).family == "mt3" and name not in catalogue.aliases()
]


def test_the_models_of_the_family() -> None:
    assert OF_THE_FAMILY == ["ismir2021_piano", EMBEDDED, "mr_mt3", "mr_mt3_0", "mr_mt3_32", "mt3", "yourmt3"]
    lengths = {name: load_preset(name).network.memory for name in OF_THE_FAMILY}
    remembered = {name: memory.length for name, memory in lengths.items() if memory}
    assert remembered == {"mr_mt3": 64, "mr_mt3_0": 0, "mr_mt3_32": 32}


@pytest.mark.parametrize("name", [name for name in OF_THE_FAMILY if name != EMBEDDED])
def test_weights_without_a_licence_must_be_acknowledged(name: str) -> None:
    files = load_preset(name).files
    assert files.licence.startswith("none declared")
    assert files.terms is not None


@pytest.mark.parametrize(
    ("kind", "values", "words"),
    [
        (FrontEndConfig, {"hop": 0}, "hop is 0; it must be positive"),
        (FrontEndConfig, {"hop": 4096}, "it must not exceed fft"),
        (FrontEndConfig, {"high_hz": 9000.0}, "rise within 0 to 8000"),
        (VocabularyConfig, {"velocity_bins": 128}, "MIDI has 127 levels"),
        (TransformerConfig, {"width": 33}, "must be even"),
        (TransformerConfig, {"max_tokens": 1}, "at least 2"),
        (MemoryConfig, {"length": -1}, "cannot be negative"),
        (TranscriptionConfig, {"batch_size": 0}, "batch_size is 0; it must be positive"),
        (TranscriptionConfig, {"num_beams": 0}, "num_beams is 0; it must be positive"),
        (TranscriptionConfig, {"num_beams": 65}, "num_beams is 65; it must be at most 64"),
        (TranscriptionConfig, {"num_beams": 2, "parity": True}, "parity and num_beams=2 exclude each other"),
        (TranscriptionConfig, {"max_tokens": 1}, "at least 2"),
        (TranscriptionConfig, {"programs": ()}, "bans every note but drums"),
        (TranscriptionConfig, {"programs": (128,)}, "programs are 0 to 127"),
        (TranscriptionConfig, {"parity": True, "constrained": True}, "exclude each other"),
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(kind: type, values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        kind(**values)


def test_a_model_without_room_for_its_vocabulary_is_refused() -> None:
    network = load_preset("mt3").network
    small = replace(network, transformer=replace(network.transformer, embeddings=1390))
    with pytest.raises(ConfigError, match="embeddings is 1390, but the vocabulary has 1391 ids"):
        MT3Config(name="x", network=small)


def test_a_memory_needs_a_length() -> None:
    with pytest.raises(TypeError, match="length"):
        MemoryConfig()  # type: ignore[call-arg]


@pytest.mark.parametrize("what", sorted({*Family.__annotations__, *vars(Family)} - {"name", "network_type"}))
def test_a_member_of_the_protocol_is_there_or_refused(what: str) -> None:
    if what.startswith("_"):
        return
    try:
        member = getattr(open_family("mt3"), what)
        if what not in OFFERED:
            member()
    except ConfigError as error:
        assert "transcribe with `jukebox transcribe`, or choose a model of another family" in str(error)  # noqa: PT017
        assert what not in OFFERED
    else:
        assert what in OFFERED


def test_a_model_that_generates_does_not_transcribe() -> None:
    with pytest.raises(ConfigError, match="models of the family jukebox do not transcribe music"):
        open_transcribing("jukebox")


@pytest.mark.parametrize("name", OF_THE_FAMILY)
def test_the_number_of_parameters_is_about_right(name: str) -> None:
    preset = load_preset(name)
    expected = {"mt3": 45_896_704, "mr_mt3": 48_519_680, "yourmt3": 47_074_188}
    found = preset.opened.approximate_parameters(preset.config)
    assert found == pytest.approx(expected.get(name, found), rel=0.02)


def test_beams_belong_to_the_causes_only_if_there_are_several() -> None:
    """Blocks that greedy decoding stored before there were beams are still found."""
    config, family = load_preset("mt3").config, open_transcribing("mt3")
    one, two = (family.transcription_causes(config, TranscriptionConfig(num_beams=beams)) for beams in (1, 2))
    assert "num_beams" not in one["transcription"]
    assert two == {**one, "transcription": {**one["transcription"], "num_beams": 2}}


def test_keys_of_models_without_a_perceiver_do_not_mention_one() -> None:
    family = open_transcribing("mt3")
    for name in OF_THE_FAMILY:
        causes = family.transcription_causes(load_preset(name).config, TranscriptionConfig())
        assert ("perceiver" in causes["network"]) == (name == "yourmt3")
