"""Decode steps with static shapes, and the CUDA graph around them."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING

import pytest
import torch

from jukebox_core.errors import DeviceError
from jukebox_core.families.jukebox.engines.engines import prepare, quantise_projections
from jukebox_core.families.jukebox.engines.static_steps import StaticTransformer
from jukebox_core.families.jukebox.sampling.decoder import WindowDecoder
from jukebox_core.runtime.graphs import GraphedStep
from tests.helpers.models.tiny_priors import CONFIGS, tiny_codes, tiny_condition, tiny_prior

if TYPE_CHECKING:
    from torch import Tensor

    from jukebox_core.families.jukebox.model.prior import Prior

KINDS = pytest.mark.parametrize("kind", CONFIGS)


def logits(prior: Prior, known: int) -> Tensor:
    """Returns the logits of every step after `known` codes, with given codes fed back, and the caches, flattened."""
    codes, decoder = tiny_codes(prior), WindowDecoder(prior, tiny_condition(prior))
    if known:
        decoder.read(prior.sequence(codes[:, :known], decoder.condition))
    features = []
    for place in range(decoder.state.cache.position, prior.config.positions):
        features.append(decoder.predict())
        decoder.feed(prior.sequence(codes, decoder.condition)[:, place])
    kept = [layer.kv.flatten() for layer in decoder.state.cache.layers]
    return torch.cat([prior.logits(torch.cat(features, dim=1)).flatten(), *kept])


@KINDS
@pytest.mark.parametrize("known", [0, 5])
def test_steps_and_caches_equal_those_of_plain_steps(kind: str, known: int) -> None:
    plain, stepped = tiny_prior(kind), tiny_prior(kind)
    stepped.body.transformer = StaticTransformer(stepped.body.transformer)
    torch.testing.assert_close(logits(stepped, known), logits(plain, known), atol=1e-4, rtol=1e-4)


def test_a_step_does_the_same_at_every_position() -> None:
    """A graph captured once holds at every position: the operations and their shapes never change."""

    class Recorder(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            done = function(*args, **(kwargs or {}))
            shape = tuple(done.shape) if isinstance(done, torch.Tensor) else None
            steps[-1].append((str(function), shape))
            return done

    prior = tiny_prior("one_sequence")
    prior.body.transformer = StaticTransformer(prior.body.transformer)
    cache = prior.body.transformer.new_cache(2, dtype=torch.float32, device=torch.device("cpu"))
    steps: list[list[object]] = []
    for _ in range(prior.config.positions):
        x = torch.randn(2, 1, 16)
        steps.append([])
        with Recorder():
            prior.body.transformer.extend(x, cache)
    assert all(step == steps[0] for step in steps)
    assert not any("item" in str(operation) or "_local_scalar" in str(operation) for operation in steps[0])


def compiled_and_plain_logits() -> tuple[Tensor, Tensor]:
    plain, compiled = tiny_prior("top"), prepare(tiny_prior("top"), "compiled")
    return logits(compiled, 5), logits(plain, 5)


@pytest.mark.slow
@pytest.mark.endurance
def test_compiled_steps() -> None:
    """In a separate process: torch.compile loads setuptools, which conflicts with modules loaded before it."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        found, expected = process.submit(compiled_and_plain_logits).result()
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_int8_in_plain_torch() -> None:
    exact, rounded = tiny_prior("top"), tiny_prior("top")
    quantise_projections(rounded.body.transformer)
    plain, stepped = logits(exact, 5), logits(rounded, 5)
    assert (plain - stepped).norm() < 0.05 * plain.norm()


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without CUDA")
def test_a_graph_needs_cuda() -> None:
    with pytest.raises(DeviceError, match="engine=graph does not work on cpu; choose engine=auto"):
        prepare(tiny_prior("top"), "graph")


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without CUDA")
def test_a_failed_capture_falls_back_and_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    step = GraphedStep(torch.add)
    for value in (1.0, 2.0):
        assert step(torch.tensor(value), torch.tensor(3.0)) == value + 3
    assert caplog.text.count("not replayed as a CUDA graph") == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need CUDA")
@KINDS
def test_graphed_steps(kind: str) -> None:
    with torch.device("cuda"):
        plain, graphed = tiny_prior(kind).cuda(), prepare(tiny_prior(kind).cuda(), "graph")
        torch.testing.assert_close(logits(graphed, 5), logits(plain, 5), atol=1e-3, rtol=1e-3)
