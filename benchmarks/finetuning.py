"""Effect of finetuning a model on ten clips of an unknown artist: loss on that artist, and on the known ones.

The new artist is two known ones playing in unison, under a name of its own. Bits per token are those of the top prior
on songs held out from both trainings; before, the label of the new artist is `unknown`. ``python -m
benchmarks.finetuning --help``; the last line printed is JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from jukebox_core.audio.files import write_audio
from jukebox_core.composer.album import plan_album, render_score
from jukebox_core.composer.config import AlbumConfig
from jukebox_core.composer.styles import ARTISTS
from jukebox_core.datasets.config import CheckConfig
from jukebox_core.datasets.songs import Song, scan_songs, write_metadata
from jukebox_core.datasets.windows import CodeWindows
from jukebox_core.families.jukebox.checkpoints.loading import load_prior
from jukebox_core.families.jukebox.conditioning.vocabulary import load_vocabularies
from jukebox_core.families.jukebox.training.batch import collate
from jukebox_core.families.jukebox.training.prior import LabelledWindows, PriorStep
from jukebox_core.models.config import WeightsConfig
from jukebox_core.models.presets import load_preset
from jukebox_core.models.resolve import obtain_vocabularies, obtain_weights
from jukebox_core.runtime.config import HardwareConfig
from pipelines.flows.train import train
from pipelines.orchestration.training_calls import PLAIN
from pipelines.settings.compose import FINETUNE, compose
from stages.handles import FileHandle
from stages.resident import CodecSpec
from stages.training.dataset import encode_songs

if TYPE_CHECKING:
    from collections.abc import Sequence

NEW = "unison"
PLAYERS = ("organ", "music box")  # of whom the new artist consists
GENRE = "waltz"
SEED, HELD_OUT_SEED = 141_421, 161_803  # of albums that no other training uses

log = logging.getLogger("jukebox")


@dataclass(frozen=True)
class Place:
    """The folders of the benchmark, and the length of its songs in seconds."""

    folder: Path
    model: str
    seconds: float

    @property
    def weights(self) -> WeightsConfig:
        """The folder of model files."""
        return WeightsConfig(folder=str(self.folder / "weights"))


def write_unison(place: Place, name: str, songs: int, seed: int, artist: str) -> Path:
    """Writes songs of the new artist; returns their folder."""
    folder, rate = place.folder / name, load_preset(place.model).config.sample_rate
    album = AlbumConfig(songs=songs, seconds=place.seconds, seed=seed, genres=(GENRE,), sample_rate=rate)
    known = []
    for track in plan_album(album):
        scores = [replace(track, artist=player).compose() for player in PLAYERS]
        played = [render_score(replace(scores[0], artist=player), album) for player in PLAYERS]
        length = min(len(each) for each in played)
        path = folder / track.name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_audio(path, sum(each[:length] for each in played) / np.float32(len(played)), rate, album.format)
        known.append(Song(name=track.name, path=path, artist=artist, genre=GENRE, lyrics=scores[0].lyrics))
    write_metadata(folder / "metadata.jsonl", known)
    return folder


def write_known(place: Place) -> Path:
    """Writes a song of every artist that the model knows; returns their folder."""
    folder, rate = place.folder / "known", load_preset(place.model).config.sample_rate
    album = AlbumConfig(songs=len(ARTISTS), seconds=place.seconds, seed=HELD_OUT_SEED, sample_rate=rate)
    known = []
    for track, artist in zip(plan_album(album), ARTISTS, strict=True):
        score, path = replace(track, artist=artist).compose(), folder / track.name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_audio(path, render_score(score, album), rate, album.format)
        known.append(Song(name=track.name, path=path, artist=artist, genre=track.genre, lyrics=score.lyrics))
    write_metadata(folder / "metadata.jsonl", known)
    return folder


@torch.no_grad()
def bits(place: Place, model: str, audio: Path) -> float:
    """Returns the loss of a model's top prior on the songs of a folder, in bits per token."""
    settings = load_preset(model)
    config, top = settings.config, settings.config.top
    files = obtain_weights(settings, place.weights)
    vqvae = FileHandle.of(files["vqvae"].path, files["vqvae"].sha256, files["vqvae"].identity)
    codes = place.folder / f"{settings.name}_{audio.name}"
    codec = CodecSpec.of(settings, vqvae, HardwareConfig(device="cpu"))
    encode_songs(codec, CheckConfig(), scan_songs(audio), codes)
    names = obtain_vocabularies(settings.files, place.weights)
    known = load_vocabularies({role: file.path for role, file in names.items()})
    prior = config.priors[top]
    windows = LabelledWindows(
        CodeWindows(codes, level=top, context=prior.context), prior, config.vqvae.hops[top], known
    )
    step = PriorStep(load_prior(config, top, files[f"level_{top}"].path)).eval()
    found = [step(collate([windows[number]]))[1]["bits"] for number in range(len(windows))]
    return float(torch.stack(found).mean())


def finetuned(place: Place, audio: Path, overrides: Sequence[str]) -> Path:
    """Returns the folder of a model finetuned on the songs of a folder, as by ``jukebox finetune``."""
    where = [f"data.audio={audio}", f"folder={place.folder / 'model'}", f"weights.folder={place.weights.folder}"]
    fixed = [f"+labels.artists={{{NEW}: null}}", "data.validation=0", "training.devices.accelerator=cpu"]
    return train(compose(FINETUNE, [f"model={place.model}", *where, *fixed, *overrides]), PLAIN)


def run(place: Place, clips: int, overrides: Sequence[str]) -> dict[str, Any]:
    """Returns the losses before and after finetuning."""
    learnt = write_unison(place, "learnt", clips, SEED, NEW)
    held_out = [write_unison(place, name, 4, HELD_OUT_SEED, artist) for name, artist in
                (("as_unknown", "unknown"), ("as_new", NEW))]  # fmt: skip
    known = write_known(place)
    before = {"new": bits(place, place.model, held_out[0]), "known": bits(place, place.model, known)}
    began = time.monotonic()
    model = finetuned(place, learnt, overrides)
    took = time.monotonic() - began
    after = {"new": bits(place, str(model), held_out[1]), "known": bits(place, str(model), known)}
    rise = after["known"] / before["known"] - 1
    return {"clips": clips, "seconds": took, "before": before, "after": after, "known_rise": rise}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints a table, and one line of JSON last."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.finetuning", description=__doc__)
    parser.add_argument("--model", default="mini", help="a shipped model, or the path of one's yaml file or folder")
    parser.add_argument("--clips", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=12.0, help="length of a song, on average")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument(
        "overrides", nargs="*", help="of `jukebox finetune`, as training.level_2.schedule.decay_start=30"
    )
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    loop = f"training.level_2.loop.max_steps={asked.steps}", f"training.level_2.loop.batch_size={asked.batch}"
    half = asked.steps // 2
    course = (
        f"training.level_2.schedule.decay_start={half}",
        f"training.level_2.schedule.decay_steps={asked.steps - half}",
    )
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder), asked.model, asked.seconds)
        found = run(place, asked.clips, [*loop, *course, *asked.overrides])
    print("bits a token        before  after")
    for name, words in (("new", "the new artist"), ("known", "artists known before")):
        print(f"{words:20}{found['before'][name]:6.3f} {found['after'][name]:6.3f}")
    print(json.dumps({"steps": asked.steps, "batch": asked.batch, **found}))


if __name__ == "__main__":
    main()
