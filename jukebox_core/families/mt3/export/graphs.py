"""The graphs of an MT3 model: encoder, memory encoder, what the decoder keeps of a source, and its step.

    encoded = encoder(frames);  source = encoded, or memory(encoded, ids of the segment before)
    cross = start(source);  past = empty;  ids = padding
    repeat: logits, past = step(ids, past, cross);  ids = argmax(logits)

Spectrograms and the loop stay outside. Legend: B batch, F frames, M mels, S source positions, W width, L layers,
H heads, P past tokens, D head width, V ids; 2 keys and values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from jukebox_core.export.graph import Graph, Port
from jukebox_core.families.mt3.checkpoints.loading import load_model
from jukebox_core.families.mt3.config import EOS_ID, PAD_ID, SPECIAL_IDS, TRANSCRIBER, FrontEndConfig
from jukebox_core.families.mt3.export.names import ENCODER, MEMORY, START
from jukebox_core.families.mt3.model.cache import DecoderCache, LayerCache

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Generator

    from jukebox_core.export.graph import Sizes
    from jukebox_core.families.mt3.config import MT3Config, MT3Network
    from jukebox_core.families.mt3.model.transformer import MT3
    from jukebox_core.protocols import WeightFile

_LIKE_LOG_MELS = 4.0  # spread of the random spectrograms that encoders are compared on
_EXAMPLE = {"batch": 2, "frames": 6, "source": 7, "past": 5, "tokens": 8}


@dataclass(slots=True)
class GrowingCache(LayerCache):
    """A cache without room to spare: each step makes it one position longer."""

    def append(self, at: int, k_BH1D: Tensor, v_BH1D: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002 - its length
        """Returns the keys and values of all positions."""
        assert self.k_BHRD is not None
        assert self.v_BHRD is not None
        self.k_BHRD, self.v_BHRD = torch.cat([self.k_BHRD, k_BH1D], 2), torch.cat([self.v_BHRD, v_BH1D], 2)
        return self.k_BHRD, self.v_BHRD


class _Part(nn.Module):
    """A graph's module; parts of the model that it does not use are removed."""

    def __init__(self, model: MT3, *unused: str) -> None:
        super().__init__()
        self.model = model
        for name in unused:
            delattr(model, name)
        self.eval().requires_grad_(requires_grad=False)


class EncoderGraph(_Part):
    """Spectrograms to encoded frames."""

    def __init__(self, model: MT3) -> None:
        super().__init__(model, "decoder", "head", "memory")

    def forward(self, frames_BFM: Tensor) -> Tensor:
        """Returns [B, F, W]."""
        return self.model.encode(frames_BFM)


class MemoryGraph(_Part):
    """Encoded frames and the ids of the segment before to what the decoder reads."""

    def __init__(self, model: MT3) -> None:
        super().__init__(model, "encoder", "project", "decoder", "head")

    def forward(self, encoded_BFW: Tensor, ids_BT: Tensor) -> Tensor:
        """Returns [B, S, W]."""
        return self.model.with_memory(encoded_BFW, ids_BT)


class StartGraph(_Part):
    """What the decoder reads to keys and values of its layers."""

    def __init__(self, model: MT3) -> None:
        super().__init__(model, "encoder", "project", "head", "memory", "embedding")

    def forward(self, source_BSW: Tensor) -> Tensor:
        """Returns [L, 2, B, H, S, D]."""
        return _cross(self.model, source_BSW)


class StepGraph(_Part):
    """One token of each row."""

    def __init__(self, model: MT3) -> None:
        super().__init__(model, "encoder", "project", "memory")

    def forward(self, ids_B: Tensor, past: Tensor, cross: Tensor) -> tuple[Tensor, Tensor]:
        """Returns logits [B, V], and keys and values [L, 2, B, H, P + 1, D]."""
        layers: list[LayerCache] = [GrowingCache(*it, *kept) for it, kept in zip(cross, past, strict=True)]
        logits_BV = self.model.step(ids_B, DecoderCache(layers, past.shape[4]))
        return logits_BV, torch.stack([torch.stack([each.k_BHRD, each.v_BHRD]) for each in layers])  # type: ignore[list-item]


def _cross(model: MT3, source_BSW: Tensor) -> Tensor:
    layers = model.start(source_BSW).layers
    return torch.stack([torch.stack([each.cross_k_BHSD, each.cross_v_BHSD]) for each in layers])


def open_graph(config: MT3Config, name: str, files: Mapping[str, WeightFile]) -> Graph:
    """Returns a graph of a model, with its weights; errors as `load_model`."""
    return graph_of(load_model(config.network, files[TRANSCRIBER].path), name)


def graph_of(model: MT3, name: str) -> Graph:
    """Returns a graph of a loaded model, which is changed."""
    network = model.config
    sizes, width = network.transformer, network.transformer.width
    memory = network.memory.length if network.memory else 0
    encoded = Port("encoded", ("batch", "frames", width), "float32")
    source = Port("source", ("batch", "source", width), "float32")
    kept = (sizes.decoder_depth, 2, "batch", sizes.heads)
    cross = Port("cross", (*kept, "source", sizes.head_width), "float32")
    past = Port("past", (*kept, "past", sizes.head_width), "float32")
    present = Port("present", (*kept, "present", sizes.head_width), "float32")
    ids = Port("ids", ("batch",), "int64")
    facts = _facts(network)
    if name == ENCODER:
        frames = Port("frames", ("batch", "frames", network.front_end.mels), "float32")  # type: ignore[union-attr]
        return _graph(name, EncoderGraph(model), (frames,), (encoded,), network, facts)
    if name == MEMORY:
        before = Port("ids", ("batch", "tokens"), "int64")
        joined = Port("source", ("batch", "source", width), "float32")
        return _graph(name, MemoryGraph(model), (encoded, before), (joined,), network, facts | {"memory": memory})
    if name == START:
        return _graph(name, StartGraph(model), (source,), (cross,), network, facts)
    logits = Port("logits", ("batch", sizes.embeddings), "float32", "logits")
    return _graph(name, StepGraph(model), (ids, past, cross), (logits, present), network, facts)


def _graph(
    name: str,
    module: nn.Module,
    inputs: tuple[Port, ...],
    outputs: tuple[Port, ...],
    network: MT3Network,
    facts: dict[str, Any],
) -> Graph:
    memory = network.memory.length if network.memory else 0  # so many vectors are kept of the ids before
    least = {"tokens": memory + 1} if name == MEMORY else {}
    names = {axis for port in inputs for axis in port.axes if isinstance(axis, str)}
    segment, most = network.front_end.segment_frames, network.transformer.max_tokens
    cases = (
        {"batch": 1, "frames": 1, "source": 1, "past": 0, "tokens": most},
        {"batch": 3, "frames": 17, "source": 20, "past": 1, "tokens": most},
        {"batch": 2, "frames": segment, "source": segment, "past": 63, "tokens": most},
        {"batch": 1, "frames": segment, "source": segment, "past": most - 2, "tokens": most},
    )

    many = {"batch": 200, "frames": 2, "source": 9, "past": 12, "tokens": most}

    def draw(sizes: Sizes, generator: Generator) -> tuple[Tensor, ...]:
        if isinstance(module, StepGraph):
            return _drawn_state(module, sizes, generator)
        made = []
        for port in inputs:
            shape = port.shape(sizes)
            if port.dtype == "int64":
                made.append(torch.randint(network.transformer.embeddings, shape, generator=generator))
            else:
                spread = _LIKE_LOG_MELS if port.name == "frames" else 1.0
                made.append(torch.randn(shape, generator=generator) * spread)
        return tuple(made)

    return Graph(
        name=name,
        module=module,
        inputs=inputs,
        outputs=outputs,
        example={axis: _EXAMPLE[axis] + least.get(axis, 0) for axis in names},
        cases=tuple({axis: size for axis, size in case.items() if axis in names} for case in cases),
        counted=({axis: size for axis, size in many.items() if axis in names},),
        draw=draw,
        least=least,
        quantised=(),
        facts=facts,
    )


@torch.inference_mode()
def _drawn_state(step: StepGraph, sizes: Sizes, generator: Generator) -> tuple[Tensor, ...]:
    """Returns ids, past and cross of a random source after as many steps with drawn ids as the past has positions."""
    shape = sizes["batch"], sizes["source"], step.model.config.transformer.width
    cross = _cross(step.model, torch.randn(shape, generator=generator))
    ids, past = torch.full(shape[:1], PAD_ID), cross[:, :, :, :, :0]
    for _ in range(sizes["past"]):
        logits_BV, past = step(ids, past, cross)
        ids = torch.multinomial(logits_BV.softmax(-1), 1, generator=generator)[:, 0]
    return ids, past.clone(), cross


def _facts(network: MT3Network) -> dict[str, Any]:
    front, words = network.front_end, network.vocabulary
    mel = {}
    if isinstance(front, FrontEndConfig):
        mel = {
            "mels": front.mels, "low_hz": front.low_hz, "high_hz": front.high_hz, "slopes": front.slopes,
            "normalise": front.normalise,
        }  # fmt: skip
    return {
        "sample_rate": front.sample_rate,
        "hop": front.hop,
        "fft": front.fft,
        "segment_samples": front.segment_samples,
        "spectrogram": mel,
        "channels": network.channels,
        "pad_id": PAD_ID,
        "eos_id": EOS_ID,
        "special_ids": SPECIAL_IDS,
        "max_tokens": network.transformer.max_tokens,
        "vocabulary": {
            "order": ["shift", "pitch", "velocity", "tie", "program", "drum"],
            "shifts": words.max_shift_steps + 1,
            "velocities": words.velocity_bins + 1,
            "steps_per_second": words.steps_per_second,
        },
        "cache": "layers, keys and values, batch, heads, positions, head width; past has no position before the first "
        "step, and present is the past of the next one",
        "loop": [
            "cross = start(source), where source is encoded, or memory(encoded, ids of the segment before, padded with "
            "pad_id to max_tokens)",
            "ids = pad_id; past = empty; repeat at most max_tokens - 1 times:",
            "logits, past = step(ids, past, cross); ids = argmax of logits; a row ends with eos_id",
        ],
    }
