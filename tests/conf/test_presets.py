"""Every file in conf/ composes, sets every field of its record, and means the same to Hydra and to the core."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from functools import cache
from typing import TYPE_CHECKING

import pytest
import yaml
from omegaconf import OmegaConf

from jukebox_core.base.paths import conf_dir
from jukebox_core.base.structuring import build, to_plain
from jukebox_core.base.yaml_files import load_yaml
from jukebox_core.errors import ConfigError
from jukebox_core.families.jukebox.conditioning.song import Song
from jukebox_core.families.jukebox.sampling.config import SamplingConfig
from jukebox_core.families.mt3.config import TranscriptionConfig
from jukebox_core.features.presets import load_recipe
from jukebox_core.models.catalogue import aliases
from jukebox_core.models.presets import load_preset, option_names
from jukebox_core.runtime.config import HardwareConfig
from pipelines.settings.common import OutputSettings, RunnerSettings, StorageSettings
from pipelines.settings.compose import (
    ALIGN,
    COMPOSE,
    DATASET,
    DECODE,
    ENCODE,
    EVALUATE,
    EXPORT,
    FEATURES,
    GENERATE,
    INPAINT,
    TRAIN,
    TRANSCRIBE,
    VAMP,
    Root,
    compose,
    dump,
)
from pipelines.settings.generate import PromptSettings, Settings
from pipelines.settings.train import TrainSettings
from pipelines.settings.transcribe import TranscribeSettings
from tests.helpers.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

TRANSCRIBERS = ["accurate", "fast", "ismir2021_piano", "mini_mt3", "mr_mt3", "mr_mt3_0", "mr_mt3_32", "mt3", "yourmt3"]
VARIERS = ["mini_vamp", "vampnet"]
MODELS = [name for name in option_names("model") if name not in (*TRANSCRIBERS, *VARIERS)]
GROUPS = sorted(path.name for path in conf_dir().iterdir() if path.is_dir())
FOR_TRAINING = ("recipe", "training")
OPTIONS = [(group, name) for group in GROUPS for name in option_names(group)]
NEEDED = {"s3": ["storage.tokens=s3://bucket/tokens"], "drawn": ["mask.file=a.png"]}


@cache
def settings_with(model: str) -> Settings:
    """The settings of a model; with a given precision no memory is estimated, which takes a second."""
    return compose(GENERATE, [f"model={model}", "seconds=61", "hardware.dtype=float32"])


SMALL = ["small_labelled_prior", "small_prior", "small_sep_enc_dec_prior", "small_single_enc_dec_prior"]


def test_the_models_are_the_three_released_ones_mini_and_those_to_train() -> None:
    released = ["1b_lyrics", "1b_lyrics_hub", "5b", "5b_lyrics", "5b_lyrics_hub", "best"]
    assert [*released, "mini", "small", *SMALL] == MODELS
    assert {load_preset(name).family for name in TRANSCRIBERS} == {"mt3"}


@pytest.mark.parametrize(("group", "name"), OPTIONS, ids=str)
def test_every_option_of_every_group_makes_valid_settings(group: str, name: str) -> None:
    if group in FOR_TRAINING:
        kinds = {"mt3": "mini_mt3", "vamp": "vampnet"}
        model = [f"model={kinds[kind]}" for kind in kinds if group == "training" and kind in name]
        assert isinstance(compose(TRAIN, [f"{group}={name}", *model, "data.audio=/music"]), TrainSettings)
        return
    if name in TRANSCRIBERS:
        assert compose(TRANSCRIBE, [f"model={name}", "audio=[a.wav]"]).model.name == aliases().get(name, name)
        return
    if name in VARIERS:
        assert compose(VAMP, [f"model={name}", "audio=[a.wav]"]).model.name == name
        return
    if group == "mask":
        assert compose(VAMP, [f"mask={name}", "audio=[a.wav]", *NEEDED.get(name, [])]).mask
        return
    if group == "model":
        assert settings_with(name).model.name
        return
    if group == "features":
        assert compose(FEATURES, [f"features={name}", "audio=[a.wav]", "model=5b"]).features == load_recipe(name)
        return
    settings = compose(GENERATE, [f"{group}={name}", *NEEDED.get(name, [])])
    assert isinstance(settings, Settings)


def test_an_option_that_needs_a_value_asks_for_it() -> None:
    texts = {each: (conf_dir() / each[0] / f"{each[1]}.yaml").read_text(encoding="utf-8") for each in OPTIONS}
    needing = [each for each, text in texts.items() if re.search(r": \?\?\?( |$)", text, re.MULTILINE)]
    assert {name for _, name in needing} == set(NEEDED)
    for group, name in needing:
        root, more = (VAMP, ["audio=[a.wav]"]) if group == "mask" else (GENERATE, [])
        key = NEEDED[name][0].partition("=")[0]
        with pytest.raises(ConfigError, match=f"{key} has no value; give {key}="):
            compose(root, [f"{group}={name}", *more])


@pytest.mark.parametrize(
    ("overrides", "given"),
    [
        ([], ()),
        (["start=model"], ("vqvae", "level_0", "level_1", "level_2")),
        (["parts=[level_1]"], ("vqvae",)),
        (["parts=[level_1]", "+labels.artists={mine: null}"], ("vqvae", "level_0", "level_2")),
    ],
    ids=str,
)
def test_a_training_asks_for_the_weights_that_it_uses(overrides: list[str], given: tuple[str, ...]) -> None:
    settings = compose(TRAIN, ["data.audio=a", *overrides])
    assert set(settings.given) == set(given)


@pytest.mark.parametrize(
    ("root", "overrides"),
    [
        (GENERATE, []),
        (ENCODE, ["audio=[a.wav]"]),
        (DECODE, ["codes=[a.npz]"]),
        (FEATURES, ["audio=[a.wav]"]),
        (TRANSCRIBE, ["audio=[a.wav]"]),
        (VAMP, ["audio=[a.wav]"]),
        (INPAINT, ["audio=[a.wav]", "start=1.0", "stop=2.0"]),
        (EVALUATE, ["reference=a.mid", "estimate=b.mid"]),
        (ALIGN, ["run=a"]),
        (COMPOSE, []),
        (DATASET, ["audio=a"]),
        (EXPORT, []),
        (TRAIN, ["data.audio=a"]),
        (TRAIN, ["recipe=mini"]),
        (TRAIN, ["recipe=mini_mt3"]),
        (TRAIN, ["recipe=small", "model=small_labelled_prior", "data.audio=a"]),
    ],
    ids=str,
)
def test_the_files_set_every_field_so_that_every_field_can_be_overridden(
    root: Root[object], overrides: list[str]
) -> None:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        composed = OmegaConf.to_container(hydra_compose(root.name, overrides), resolve=True)
    assert to_plain(build(root.kind, composed)) == composed
    assert set(composed) == {field.name for field in fields(root.kind)}  # type: ignore[arg-type]


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_the_same_to_hydra_and_to_the_core(name: str) -> None:
    assert settings_with(name).model == load_preset(name)


@pytest.mark.parametrize("name", MODELS)
def test_settings_round_trip_through_yaml(name: str) -> None:
    settings = settings_with(name)
    assert build(Settings, yaml.safe_load(dump(settings))) == settings


@pytest.mark.parametrize(
    ("group", "option", "record"),
    [
        ("sampling", "default", SamplingConfig()),
        ("hardware", "auto", HardwareConfig()),
        ("song", "unknown", Song()),
        ("prompt", "none", PromptSettings()),
        ("output", "wav", OutputSettings()),
        ("runner", "threads", RunnerSettings()),
    ],
)
def test_defaults_are_the_same_in_yaml_and_in_python(group: str, option: str, record: object) -> None:
    found = load_yaml(conf_dir() / group / f"{option}.yaml")
    if isinstance(record, SamplingConfig):  # temperatures are the model's
        for level in range(3):
            assert found[f"level_{level}"]["temperature"] == f"${{model.usual_temperatures.level_{level}}}"
            found[f"level_{level}"]["temperature"] = record.level(level).temperature
    assert found == to_plain(record)


@pytest.mark.parametrize("name", TRANSCRIBERS)
def test_a_transcriber_is_the_same_to_hydra_and_to_the_core_and_round_trips(name: str) -> None:
    settings = compose(TRANSCRIBE, [f"model={name}", "audio=[a.wav]"])
    assert settings.model == load_preset(name)
    assert build(TranscribeSettings, yaml.safe_load(dump(settings))) == settings
    assert settings.transcription == TranscriptionConfig()


@pytest.mark.parametrize("root", [GENERATE, ENCODE, DECODE], ids=lambda root: root.name)
def test_a_transcriber_is_refused_where_music_is_made(root: Root[object]) -> None:
    needed = {"encode": ["audio=[a]"], "decode": ["codes=[a]"]}
    with pytest.raises(ConfigError, match="models of the family mt3 transcribe music"):
        compose(root, ["model=mt3", *needed.get(root.name, [])])


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model=mini"], "models of the family jukebox do not transcribe music; choose one that does, as model=mt3"),
        (["audio=[]"], "audio is empty"),
        (["folder=''"], "folder is empty"),
        (["hardware.dtype=float16"], "transcription computes in one of auto, float32, bfloat16, int8"),
        (["transcription.num_beams=0"], "num_beams is 0"),
        (["transcription.num_beams=2", "transcription.parity=true"], "upstream decodes greedily"),
        (["transcription.batch_size=0"], "transcription.batch_size is 0"),
        (["transcription.programs=[]"], "bans every note"),
        (["transcription.beam=3"], "transcription.beam"),
    ],
    ids=str,
)
def test_settings_of_a_transcription_that_do_not_fit_are_refused(overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(TRANSCRIBE, ["audio=[a.wav]", *overrides])
    assert words in str(caught.value)


def test_storage_defaults_are_the_same_in_yaml_and_in_python() -> None:
    assert compose(GENERATE).storage == StorageSettings()


def test_the_upsamplers_of_the_released_models_are_one_and_the_same() -> None:
    released = [load_preset(name) for name in MODELS if name not in ("mini", *SMALL)]
    assert len({model.network.vqvae for model in released}) == 1
    assert len({(model.network.priors[0], model.network.priors[1]) for model in released}) == 1
    assert all(model.files.weights["level_0"].path == "5b/prior_level_0.pth.tar" for model in released)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_brings_the_vocabularies_its_priors_need(name: str) -> None:
    model = load_preset(name)
    kinds = {prior.labels.vocabulary for prior in model.network.priors if prior.labels is not None}
    assert set(model.files.vocabularies) == {f"{what}_{kind}" for kind in kinds for what in ("artists", "genres")}


@pytest.mark.parametrize("name", MODELS)
def test_windows_of_an_upsampler_lie_on_whole_tokens_above(name: str) -> None:
    config = load_preset(name).config
    sampling = SamplingConfig()
    for level in range(config.top):
        factor = config.upsampling_factor(level)
        assert config.priors[level].context % factor == 0
        assert int(sampling.level(level).hop_fraction * config.priors[level].context) % factor == 0


def test_the_small_models_vocabulary_fits_its_tables() -> None:
    model = load_preset("mini")
    labels = model.network.priors[2].labels
    assert labels is not None
    folder = ROOT / "jukebox_core" / "data"
    for what, rows in (("artists", labels.artists), ("genres", labels.genres)):
        spec = model.files.vocabularies[f"{what}_v3"]
        lines = (folder / spec.path).read_bytes()
        assert len(lines) == spec.bytes
        assert sorted(int(line.rpartition(";")[2]) for line in lines.decode().splitlines()) == list(range(rows))


@pytest.mark.parametrize("name", MODELS)
def test_every_model_names_a_usual_length_that_it_knows(name: str) -> None:
    model = load_preset(name)
    assert model.usual_seconds == (30.0 if name == "mini" else 180.0)
    timing = model.config.priors[model.config.top].timing
    assert timing is None or timing.min_seconds <= model.usual_seconds < timing.max_seconds


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_sampled_at_its_own_temperatures(name: str) -> None:
    usual = load_preset(name).usual_sampling
    assert settings_with(name).sampling == usual
    hotter = compose(
        GENERATE, [f"model={name}", "seconds=61", "hardware.dtype=float32", "sampling.level_1.temperature=2"]
    )
    assert hotter.sampling == replace(usual, level_1=replace(usual.level_1, temperature=2.0))


def test_a_model_of_an_earlier_version_that_names_no_temperatures_has_those_of_sampling(tmp_path: Path) -> None:
    old = load_yaml(conf_dir() / "model" / "mini.yaml")
    del old["usual_temperatures"]
    path = tmp_path / "old.yaml"
    path.write_text(yaml.safe_dump(old))
    assert compose(GENERATE, [f"model={path}"]).sampling == SamplingConfig()


def test_an_unknown_model_is_an_error_with_near_misses() -> None:
    with pytest.raises(ConfigError) as caught:
        load_preset("5b_lyric")
    assert str(caught.value) == (
        f"model is '5b_lyric'; choose one of {', '.join(option_names('model'))}; "
        "closest: '5b_lyrics', '1b_lyrics', '5b_lyrics_hub'"
    )
