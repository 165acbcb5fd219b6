"""Jukebox behind the door (`jukebox_core.family`): its settings, its files, its plans and its networks.

Methods that need torch import it when they are called: planning and checks run without it.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from jukebox_core.base.hashing import digest_file
from jukebox_core.errors import ConfigError
from jukebox_core.export.engine import ENGINE, open_graphs
from jukebox_core.families.jukebox.alignment.heads import alignment_head
from jukebox_core.families.jukebox.conditioning.labels import label_levels
from jukebox_core.families.jukebox.conditioning.lengths import music_length, song_seconds, song_times
from jukebox_core.families.jukebox.conditioning.lyrics import alphabet
from jukebox_core.families.jukebox.conditioning.song import Song, SongOverride
from jukebox_core.families.jukebox.conditioning.vocabulary import UNKNOWN, load_vocabularies
from jukebox_core.families.jukebox.config import CODEC, JukeboxConfig, JukeboxNetwork, level_of
from jukebox_core.families.jukebox.export.names import graphs_of
from jukebox_core.families.jukebox.features.labels import feature_sizes, label_row
from jukebox_core.families.jukebox.sampling.config import SamplingConfig
from jukebox_core.families.jukebox.sampling.song_plan import SongPlan, SongSpec, plan_song
from jukebox_core.protocols import WeightFile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from jukebox_core.export.graph import Graph
    from jukebox_core.families.jukebox.alignment.aligner import PriorAligner
    from jukebox_core.families.jukebox.api import Jukebox
    from jukebox_core.families.jukebox.conditioning.labels import SongLabels
    from jukebox_core.families.jukebox.export.engine import GraphCodec
    from jukebox_core.families.jukebox.features.extractor import PriorExtractor
    from jukebox_core.families.jukebox.sampling.codec import VQVAECodec
    from jukebox_core.families.jukebox.sampling.prior_model import PriorModel
    from jukebox_core.families.jukebox.training.family import JukeboxTraining
    from jukebox_core.family import RunRequest
    from jukebox_core.features.config import FeatureSizes
    from jukebox_core.models.config import WeightsConfig
    from jukebox_core.models.presets import ModelSettings
    from jukebox_core.runtime.config import HardwareConfig
    from jukebox_core.tokens.graph import Take

_PLANNED = 32  # cached song plans: a command plans before the run, and again after damage
_planned = lru_cache(maxsize=_PLANNED)(plan_song)


class JukeboxFamily:
    """Jukebox (Dhariwal et al. 2020): a VQ-VAE of two or three levels and a prior for each."""

    name = "jukebox"
    network_type = JukeboxNetwork
    sampling_type = SamplingConfig
    song_type = Song
    song_overrides_type = SongOverride
    codec_role = CODEC
    dtypes = ("float32", "bfloat16", "float16", "int8")

    def config(self, name: str, network: JukeboxNetwork) -> JukeboxConfig:
        """Returns the hyperparameters of the preset called `name`."""
        return JukeboxConfig(name=name, vqvae=network.vqvae, priors=network.priors)

    # Files

    def roles(self, config: JukeboxConfig) -> tuple[str, ...]:
        """Returns ``vqvae`` and the priors, bottom level first."""
        return (CODEC, *(self.role_of(level) for level in range(config.top + 1)))

    def role_of(self, level: int) -> str:
        """Returns the role of the prior of `level`."""
        return f"level_{level}"

    def files_of(self, role: str) -> tuple[str, ...]:
        """Returns the role alone: a file is a network."""
        return (role,)

    def check_file(self, config: JukeboxConfig, role: str, path: Path) -> None:
        """Checks that a file holds every tensor of `role`, in its shape, and nothing else."""
        from jukebox_core.families.jukebox.checkpoints.fitting import check_weights

        check_weights(config, role, path)

    def initialise(self, config: JukeboxConfig, role: str, seed: int, path: Path) -> None:
        """Writes the untrained weights of `role`, drawn from `seed`."""
        from jukebox_core.families.jukebox.checkpoints.initialise import write_seeded

        write_seeded(config, role, seed, path)

    def initialise_causes(self, config: JukeboxConfig, role: str) -> Mapping[str, Any]:
        """Returns the sizes that decide untrained weights."""
        prior = None if role == CODEC else asdict(config.priors[level_of(role)])
        return {"vqvae": asdict(config.vqvae), "prior": prior}

    def codec_causes(self, config: JukeboxConfig) -> Mapping[str, Any]:
        """Returns the sizes of the VQ-VAE."""
        return {"vqvae": asdict(config.vqvae)}

    def split(self, config: JukeboxConfig, role: str, shards: Sequence[Path], path: Path) -> None:
        """Writes one network out of a whole model in the layout of the Hugging Face hub."""
        from jukebox_core.families.jukebox.checkpoints.hub import write_network

        write_network(config, role, shards, path)

    # Requests and plans

    def check_song(self, config: JukeboxConfig, song: Song, seconds: float) -> None:
        """Checks that a song asks only for conditioning that the model has, and that its lengths fit."""
        if song.has_lyrics and config.priors[config.top].lyrics is None:
            key = "lyrics" if song.lyrics else "lyrics_file"
            raise ConfigError(
                f"{key} is set, but model {config.name} knows no lyrics; remove them, or choose model=5b_lyrics"
            )
        if not any(prior.labels for prior in config.priors):
            for key, name in (("artist", song.artist), ("genre", song.genre)):
                if name != UNKNOWN:
                    raise ConfigError(
                        f"{key} is {name!r}, but model {config.name} knows no artists and genres; "
                        f"set it to {UNKNOWN}, or choose model=mini"
                    )
        song_times(config, seconds=seconds, total_seconds=song.total_seconds, offset_seconds=song.offset_seconds)

    def complete_song(self, config: JukeboxConfig, song: Song, seconds: float, usual_seconds: float | None) -> Song:
        """Returns `song` with the length that conditions the model, where the song names none."""
        if song.total_seconds is not None:
            return song
        offset = song.offset_seconds
        total = song_seconds(config, seconds=seconds, offset_seconds=offset, usual_seconds=usual_seconds)
        return replace(song, total_seconds=total)

    def length(self, request: RunRequest) -> int:
        """Returns the length of the music in audio samples: whole top-level tokens, so that all levels end together."""
        return music_length(request.config, request.seconds, stop_level=request.sampling.stop_level)

    def has_names(self, config: JukeboxConfig) -> bool:
        """Whether the top prior has labels."""
        return config.priors[config.top].labels is not None

    def names(self, config: JukeboxConfig, vocabularies: Mapping[str, Path]) -> dict[str, list[str]]:
        """Returns the artists and genres of the top prior, which has labels, by kind."""
        labels = config.priors[config.top].labels
        assert labels is not None, "has_names says so"
        known = load_vocabularies(vocabularies)[labels.vocabulary]
        tables = {"artists": known.artists, "genres": known.genres}
        return {kind: [name for name in table.ids if name not in ("", UNKNOWN)] for kind, table in tables.items()}

    def condition(self, request: RunRequest, vocabularies: Mapping[str, Path]) -> tuple[tuple[SongLabels, ...], ...]:
        """Returns the labels of every song, one for each level, bottom level first.

        The top prior's vocabulary decides which artists and genres exist. An upsampler with another vocabulary treats
        names that it lacks as unknown, as the released 1b_lyrics model does.
        """
        known, songs = load_vocabularies(vocabularies), []
        for sample in range(request.sampling.n_samples):
            song: Song = request.song_of(sample)
            times = song_times(
                request.config,
                seconds=request.seconds,
                total_seconds=song.total_seconds,
                offset_seconds=song.offset_seconds,
            )
            labels = label_levels(
                known,
                request.config,
                artist=song.artist,
                genre=song.genre,
                lyrics=song.read_lyrics(),
                total_length=times.total_length,
                offset=times.offset,
            )
            songs.append(labels)
        return tuple(songs)

    def plan(
        self,
        request: RunRequest,
        conditioning: Sequence[tuple[SongLabels, ...]],
        weights: Mapping[str, str],
        have: Sequence[Take],
    ) -> list[SongPlan]:
        """Returns the windows of each song; keys name the weights of levels that are sampled, and of no others."""
        config: JukeboxConfig = request.config
        sampled = range(request.sampling.stop_level, config.top + 1)
        used = [weights[self.role_of(level)] if level in sampled else "" for level in range(config.top + 1)]
        return [
            _planned(
                SongSpec(
                    config=config,
                    weights=tuple(used),
                    sampling=request.sampling,
                    dtype=request.dtype,
                    sample=sample,
                    labels=tuple(labels),
                    length=self.length(request),
                ),
                take,
            )
            for sample, (labels, take) in enumerate(zip(conditioning, have, strict=True))
        ]

    def describe(self, song: Song) -> Mapping[str, str]:
        """Returns artist, genre and lyrics as text."""
        return {"artist": song.artist, "genre": song.genre, "lyrics": song.read_lyrics()}

    # Networks

    def open_api(self, preset: ModelSettings, hardware: HardwareConfig, weights: WeightsConfig) -> Jukebox:
        """Returns the model for Python programs."""
        from jukebox_core.families.jukebox.api import Jukebox

        return Jukebox(preset, hardware, weights)

    def open_codec(self, config: JukeboxConfig, path: Path, hardware: HardwareConfig) -> VQVAECodec | GraphCodec:
        """Returns the VQ-VAE, prepared for the device and the engine."""
        from jukebox_core.families.jukebox.checkpoints.loading import load_vqvae
        from jukebox_core.families.jukebox.engines.engines import prepare_vqvae
        from jukebox_core.families.jukebox.sampling.codec import VQVAECodec
        from jukebox_core.runtime.device import resolve_device

        if hardware.engine == ENGINE:
            from jukebox_core.families.jukebox.checkpoints.loading import build_vqvae
            from jukebox_core.families.jukebox.export.engine import graph_codec

            files = {CODEC: WeightFile(path, digest_file(path))}
            names = [name for name, roles in graphs_of(config).items() if roles == (CODEC,)]
            sessions = open_graphs(self.name, config, names, files, hardware, self.open_graph)
            return graph_codec(config, build_vqvae(config), sessions)
        loaded = load_vqvae(config, path, device=resolve_device(hardware.device))
        return VQVAECodec(prepare_vqvae(loaded, hardware.engine))

    def code_lengths(self, config: JukeboxConfig, codec: Path, samples: int) -> tuple[int, ...]:
        """Returns the tokens of each level: whole ones alone."""
        return tuple(samples // hop for hop in config.hops)

    def open_model(
        self,
        config: JukeboxConfig,
        role: str,
        files: Mapping[str, WeightFile],
        hardware: HardwareConfig,
        library: Path | None,
    ) -> PriorModel:
        """Returns the prior of `role`, prepared for the device, the precision and the engine."""
        from jukebox_core.families.jukebox.checkpoints.prepared import Source, sampling_prior
        from jukebox_core.families.jukebox.sampling.prior_model import PriorModel
        from jukebox_core.runtime.device import resolve_device

        if hardware.engine == ENGINE:
            from jukebox_core.families.jukebox.export.engine import GraphPrior

            names = [name for name, roles in graphs_of(config).items() if roles == (role,)]
            given = {role: files[role]}
            sessions = open_graphs(self.name, config, names, given, hardware, self.open_graph)
            return PriorModel(GraphPrior(config.priors[level_of(role)], sessions), None, snapshots=False)
        prior = sampling_prior(
            config,
            level_of(role),
            Source(*files[role], library),
            device=resolve_device(hardware.device),
            dtype=hardware.dtype,
            engine=hardware.engine,
        )
        return PriorModel(prior, hardware.prefill_chunk)

    def graphs(self, config: JukeboxConfig) -> Mapping[str, tuple[str, ...]]:
        """Returns encoder and decoder of each level, and of each prior conditioning, prefill and step."""
        return graphs_of(config)

    def open_graph(self, config: JukeboxConfig, name: str, files: Mapping[str, WeightFile]) -> Graph:
        """Returns a graph of a model."""
        from jukebox_core.families.jukebox.export.graphs import open_graph

        return open_graph(config, name, files)

    def estimate_bytes(
        self, config: JukeboxConfig, levels: Sequence[int], dtype: str, batch: int, *, together: bool
    ) -> int:
        """Returns about how many bytes sampling takes: weights, caches, activations and the VQ-VAE."""
        from jukebox_core.families.jukebox.sampling import memory

        if together:
            return memory.estimate_bytes_together(config, levels, dtype, batch)
        return max((memory.estimate_bytes(config, level, dtype, batch) for level in levels), default=0)

    def approximate_parameters(self, config: JukeboxConfig) -> int:
        """Returns about how many parameters the transformers have: projections and feed-forward layers."""
        sizes = [prior.transformer for prior in config.priors]
        return sum(t.depth * t.width * (4 * t.attention_width + 2 * t.mlp_width) for t in sizes)

    # Features (`jukebox_core.protocols.FeatureFamily`)

    def feature_sizes(self, config: JukeboxConfig, level: int) -> FeatureSizes:
        """Returns the sizes of the prior of `level`."""
        return feature_sizes(config, level)

    def condition_window(
        self,
        config: JukeboxConfig,
        level: int,
        song: Song | None,
        vocabularies: Mapping[str, Path],
        *,
        total: int,
        offset: int,
    ) -> tuple[int, ...]:
        """Returns the label row of a window."""
        return label_row(config, level, song, vocabularies, total=total, offset=offset)

    def open_features(
        self,
        config: JukeboxConfig,
        level: int,
        path: Path,
        identity: str,
        hardware: HardwareConfig,
        library: Path | None,
        *,
        deepest: int,
    ) -> PriorExtractor:
        """Returns the first `deepest` layers of the prior of `level`.

        On a CPU only weights have the precision of `hardware`: what passes from layer to layer is float32.
        """
        from jukebox_core.families.jukebox.checkpoints.prepared import Source, sampling_prior
        from jukebox_core.families.jukebox.features.extractor import PriorExtractor, keep_float32, window_engine
        from jukebox_core.runtime.device import resolve_device

        device = resolve_device(hardware.device)
        prior = sampling_prior(
            config,
            level,
            Source(path, identity, library),
            device=device,
            dtype=hardware.dtype,
            engine=window_engine(hardware, device),
            deepest=deepest,
        )
        return PriorExtractor(keep_float32(prior) if device.type == "cpu" else prior)

    def feature_bytes(self, config: JukeboxConfig, level: int, deepest: int, dtype: str, batch: int) -> int:
        """Returns about how many bytes the first `deepest` layers and a batch of windows take."""
        from jukebox_core.families.jukebox.sampling import memory

        return memory.estimate_feature_bytes(config, level, deepest, dtype, batch)

    # Alignment (`jukebox_core.protocols.AlignmentFamily`)

    def aligned_text(self, config: JukeboxConfig, conditioning: Sequence[SongLabels]) -> str:
        """Returns the lyrics of a song in the characters that the model knows."""
        lyrics = config.priors[config.top].lyrics
        return "" if lyrics is None else alphabet(lyrics.characters).text(conditioning[config.top].lyric_tokens)

    def aligned_position(self, conditioning: Sequence[SongLabels]) -> tuple[int, int]:
        """Returns the length of the song and the start of the music in it, in audio samples."""
        return conditioning[-1].total_length, conditioning[-1].offset

    def aligning_head(self, config: JukeboxConfig, layer: int | None, head: int | None) -> tuple[int, int]:
        """Returns the head of the top prior that an alignment is read from."""
        return alignment_head(config, layer, head)

    def open_aligner(
        self,
        config: JukeboxConfig,
        path: Path,
        identity: str,
        hardware: HardwareConfig,
        library: Path | None,
        *,
        layer: int | None,
        head: int | None,
    ) -> PriorAligner:
        """Returns the aligner of a head of the top prior, with the layers up to it."""
        from jukebox_core.families.jukebox.alignment.aligner import PriorAligner

        chosen = alignment_head(config, layer, head)
        opened = self.open_features(config, config.top, path, identity, hardware, library, deepest=chosen.layer + 1)
        return PriorAligner(config, opened.prior, chosen)

    def training(self) -> JukeboxTraining:
        """Returns the training of the VQ-VAE and the priors."""
        from jukebox_core.families.jukebox.training.family import TRAINING

        return TRAINING


FAMILY = JukeboxFamily()
