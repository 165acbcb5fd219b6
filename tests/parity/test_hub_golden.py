"""A model in the hub's layout gives the numbers of the original's files (docs/upstream.md, Hyperparameters)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from jukebox_core.errors import CheckpointError
from jukebox_core.families.jukebox.checkpoints.loading import load_prior, load_vqvae
from jukebox_core.families.jukebox.checkpoints.upstream import prior_config, vqvae_config
from jukebox_core.families.jukebox.config import JukeboxConfig, JukeboxNetwork, PriorsConfig
from jukebox_core.models.config import FileSpec, WeightsConfig, WholeCopy
from jukebox_core.models.presets import ModelSettings, load_preset
from jukebox_core.models.resolve import obtain_weights
from tests.helpers.models.golden_priors import (
    FILES,
    FLOAT32,
    VQVAE_FILE,
    close,
    condition,
    hyperparameters,
    need,
    read_bundle,
    read_vqvae,
)
from tests.helpers.models.hub_layout import whole_model, write_shards
from tests.helpers.servers.servers import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOPS = pytest.mark.parametrize("top", ["p1bl", "p5bl", "p5b"])
REPOSITORY = "openai/jukebox-tiny"


def tiny(golden: Path, top: str) -> JukeboxConfig:
    hps = hyperparameters(golden, VQVAE_FILE)
    levels = {
        f"level_{level}": prior_config(hyperparameters(golden, FILES[kind]), hps)
        for level, kind in enumerate(("up0", "up1", top))
    }
    return JukeboxConfig(name=f"tiny_{top}", vqvae=vqvae_config(hps), priors=PriorsConfig(**levels))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    monkeypatch.setenv("no_proxy", "*")
    with serving({}) as site:
        monkeypatch.setenv("HF_ENDPOINT", site.url)
        yield site.files


def entry(config: JukeboxConfig, hub: dict[str, bytes], shards: list[Path]) -> ModelSettings:
    for shard in shards:
        hub[f"{REPOSITORY}/resolve/main/{shard.name}"] = shard.read_bytes()
    copy = WholeCopy(
        layout="hub", sources=(f"hf://{REPOSITORY}",), shards=tuple(FileSpec(path=shard.name) for shard in shards)
    )
    files = replace(load_preset("1b_lyrics").files, whole=copy, terms=None)
    network = JukeboxNetwork(vqvae=config.vqvae, priors=config.priors)
    return ModelSettings(name=config.name, family="jukebox", network=network, files=files)


@pytest.mark.slow
@TOPS
@torch.no_grad()
def test_the_hubs_copy_gives_the_same_logits_and_codes(
    golden: Path, top: str, tmp_path: Path, hub: dict[str, bytes]
) -> None:
    config, models = tiny(golden, top), golden / "zoo/models"
    stored = {"vqvae": VQVAE_FILE, "priors.0": FILES[top], "priors.1": FILES["up1"], "priors.2": FILES["up0"]}
    sources = {prefix: need(models / f"{file}.pth.tar") for prefix, file in stored.items()}
    model = entry(config, hub, write_shards(whole_model(sources, config.vqvae.downs), tmp_path / "hub"))
    weights = WeightsConfig(folder=str(tmp_path / "weights"), pickles="replace")
    obtained = obtain_weights(model, weights)
    assert len({file.sha256 for file in obtained.values()}) == len(obtained)
    for level, kind in enumerate(("up0", "up1", top)):
        bundle = read_bundle(golden, f"prior_{kind}/teacher_forced")
        prior = load_prior(config, level, obtained[f"level_{level}"].path)
        found = prior(bundle.arrays["z"], condition(prior, bundle.arrays))
        close(found, bundle.arrays["logits"], f"{kind} logits", **FLOAT32)
    vqvae, oracle = load_vqvae(config, obtained["vqvae"].path), read_vqvae(golden)
    assert all(
        torch.equal(a, b) for a, b in zip(vqvae.state_dict().values(), oracle.state_dict().values(), strict=True)
    )
    hub.clear()  # the shards are deleted on both sides, and not needed again
    assert not list((tmp_path / "weights").rglob("*.bin"))
    assert obtain_weights(model, weights) == obtained


@pytest.mark.slow
def test_another_models_copy_is_refused_by_names(golden: Path, tmp_path: Path, hub: dict[str, bytes]) -> None:
    models = golden / "zoo/models"
    sources = {"vqvae": need(models / f"{VQVAE_FILE}.pth.tar"), "priors.0": need(models / f"{FILES['p5b']}.pth.tar")}
    config = tiny(golden, "p5bl")
    model = entry(config, hub, write_shards(whole_model(sources, config.vqvae.downs), tmp_path / "hub", 1))
    weights = WeightsConfig(folder=str(tmp_path / "weights"))
    with pytest.raises(CheckpointError, match=r"missing: .*lyric_encoder|missing: "):
        obtain_weights(model, weights, roles=("level_2",))
    with pytest.raises(CheckpointError, match=r"hold no priors\.1\.\*"):
        obtain_weights(model, weights, roles=("level_1",))
