"""A small VampNet with random weights, and variations of a random piece sampled into a store in memory."""

from __future__ import annotations

import uuid
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml

from jukebox_core.base.hashing import digest_bytes
from jukebox_core.families.vampnet.config import (
    ROLE_OF,
    CodecConfig,
    TransformerConfig,
    VampNetConfig,
    VampNetNetwork,
)
from jukebox_core.families.vampnet.model.codec import Codec
from jukebox_core.families.vampnet.model.transformer import VampTransformer
from jukebox_core.families.vampnet.sampling.graph import Variation, VariationPlan, plan_variation
from jukebox_core.families.vampnet.sampling.grid_model import GridModel
from jukebox_core.families.vampnet.sampling.interface import Interface
from jukebox_core.models.checkpoints.checkpoint import save_safetensors
from jukebox_core.sampling.schedule import plan_units
from jukebox_core.sampling.windows import FlushPolicy, Unobserved, sample_nodes
from jukebox_core.store.spans import read_spans
from jukebox_core.store.store import TokenStore
from jukebox_core.tokens.graph import Span, Track

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from jukebox_core.families.vampnet.sampling.config import VampSampling
    from jukebox_core.sampling.windows import Observer

CODEC = CodecConfig(
    sample_rate=100, encoder_dim=4, encoder_rates=(2, 5), decoder_dim=8, decoder_rates=(5, 2), n_codebooks=5,
    codebook_size=12, codebook_dim=3,
)  # fmt: skip
COARSE = TransformerConfig(n_heads=2, n_layers=2, n_codebooks=2, latent_dim=3, embedding_dim=16, vocab_size=12)
C2F = TransformerConfig(
    n_heads=2, n_layers=1, n_codebooks=5, n_conditioning_codebooks=2, latent_dim=3, embedding_dim=16, vocab_size=12
)
NETWORK = VampNetNetwork(codec=CODEC.codebooks, coarse=COARSE, c2f=C2F, coarse_seconds=1.0, c2f_seconds=0.6)
CONFIG = VampNetConfig(name="tiny", network=NETWORK)
WEIGHTS = {"codec": "a" * 64, "coarse": "b" * 64, "c2f": "c" * 64}


@lru_cache
def tiny() -> Interface:
    """The networks, in memory; logits differ enough that tokens are far from uniform."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        codec = Codec(CODEC).eval()
        models = []
        for sizes in (COARSE, C2F):
            model = VampTransformer(sizes).eval()
            torch.nn.init.normal_(model.classifier.weight_g, std=3)
            model.codebooks_KVD = codec.codebooks(sizes.n_codebooks).detach()
            models.append(model.requires_grad_(requires_grad=False))
    return Interface(codec, models[0], models[1], NETWORK.chunk("coarse"), NETWORK.chunk("c2f"))


def grid_model(level: int) -> GridModel:
    return GridModel(CONFIG, getattr(tiny(), ROLE_OF[level]))


def piece(steps: int, seed: int = 0) -> NDArray[np.int32]:
    """Codes of all codebooks, [K, T]."""
    return np.random.default_rng(seed).integers(12, size=(5, steps), dtype=np.int32)


def write_preset(folder: Path) -> Path:
    """A model of other tiny sizes that reads sound at 8,000 Hz, as files with random weights; returns its preset."""
    codec_config = CodecConfig(
        sample_rate=8000, encoder_dim=4, encoder_rates=(4, 20), decoder_dim=8, decoder_rates=(20, 4), n_codebooks=5,
        codebook_size=12, codebook_dim=3,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        parts: dict[str, torch.nn.Module] = {"codec": Codec(codec_config)}
        parts |= {role: VampTransformer(sizes) for role, sizes in (("coarse", COARSE), ("c2f", C2F))}
    for role, part in parts.items():
        sizes = codec_config if role == "codec" else {"coarse": COARSE, "c2f": C2F}[role]
        save_safetensors(part.state_dict(), folder / f"{role}.safetensors", {"kwargs": asdict(sizes)})
    network = replace(NETWORK, codec=codec_config.codebooks)
    weights = {role: {"path": f"{role}.safetensors", "bytes": None, "sha256": None} for role in parts}
    files = {"weight_sources": [str(folder)], "weights": weights, "licence": "none, it is noise", "terms": None}
    path = folder / "tiny.yaml"
    path.write_text(
        yaml.safe_dump({"defaults": ["vampnet"], "name": "tiny", "network": asdict(network), "files": files})
    )
    return path


@dataclass
class Session:
    """A store with a piece in it."""

    codes: NDArray[np.int32]
    store: TokenStore

    @classmethod
    def of(cls, codes: NDArray[np.int32]) -> Session:
        return cls(codes, TokenStore(f"memory://{uuid.uuid4().hex}"))

    @property
    def source(self) -> Track:
        key = digest_bytes(self.codes.tobytes())
        if not self.store.sealed(key):
            self.store.seal(key, self.codes, first=0, causes={})
        return Track((Span(key, 0, self.codes.shape[1]),))

    def plans(
        self, mask: NDArray[np.bool_], sampling: VampSampling, samples: Sequence[int] | None = None
    ) -> list[VariationPlan]:
        return [
            plan_variation(Variation(CONFIG, WEIGHTS, sampling, "float32", sample, self.source, mask))
            for sample in (range(sampling.n_samples) if samples is None else samples)
        ]

    def sample(
        self, plans: Sequence[VariationPlan], sampling: VampSampling, batch: int, observer: Observer | None = None
    ) -> list[NDArray[Any]]:
        """The finished codes of each variation."""
        policy = FlushPolicy(tokens=1, seconds=1e9)
        for unit in plan_units(plans, batch):
            sample_nodes(
                lambda: grid_model(unit.level),  # noqa: B023 - called at once
                unit.nodes,
                self.store,
                sampling,
                policy,
                observer or Unobserved(),
                work=uuid.uuid4().hex,
            )
        return [read_spans(self.store, tuple(plan.take[0])) for plan in plans]
