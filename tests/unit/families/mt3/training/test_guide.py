"""The loss that guides attention to the frames of events."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from jukebox_core.families.mt3.config import MemoryConfig
from jukebox_core.families.mt3.events.vocabulary import vocabulary_of
from jukebox_core.families.mt3.model.transformer import Attention, CrossInputs
from jukebox_core.families.mt3.training.excerpts import IGNORED
from jukebox_core.families.mt3.training.guide import event_frames, guide_loss
from jukebox_core.families.mt3.training.initialise import new_model
from jukebox_core.families.mt3.training.step import TranscriberStep
from tests.unit.families.mt3.training.test_excerpts import NETWORK
from tests.unit.families.mt3.training.test_step import batch

VOCABULARY = vocabulary_of(NETWORK.vocabulary)
NAN = torch.nan


def ids(*events: tuple[str, int]) -> torch.Tensor:
    """Labels of one segment, with the end of sequence and padding."""
    found = VOCABULARY.to_ids([VOCABULARY.index(kind, value) for kind, value in events])  # type: ignore[arg-type]
    return torch.tensor([[*found, IGNORED]])


def test_frames_are_those_of_shifts() -> None:
    labels = ids(("pitch", 60), ("tie", 0), ("shift", 4), ("pitch", 60), ("shift", 9), ("drum", 36))
    [[before, own]] = event_frames(NETWORK, labels)
    torch.testing.assert_close(before, torch.tensor([0, 0, 0, 4, 4, 9, NAN, NAN]), equal_nan=True)
    torch.testing.assert_close(own, torch.tensor([0, 0, 4, 4, 9, 9, NAN, NAN]), equal_nan=True)


def test_shifts_in_a_row_add_up_and_frames_have_their_own_rate() -> None:
    network = replace(NETWORK, front_end=replace(NETWORK.front_end, hop=100))  # two frames a step
    labels = ids(("tie", 0), ("shift", 40), ("shift", 2), ("drum", 36), ("shift", 40), ("shift", 5), ("drum", 36))
    [[_, own]] = event_frames(network, labels)
    torch.testing.assert_close(own[:7], torch.tensor([0.0, 80, 84, 84, 80, 90, 90]))


def attending(at: int, frames: int = 20) -> CrossInputs:
    """What an attention compares whose heads see nothing but position `at`."""
    attention = Attention(NETWORK.transformer)
    heads, width = NETWORK.transformer.heads, NETWORK.transformer.head_width
    with torch.no_grad():
        attention.q.weight.fill_(1.0)
    keys = torch.zeros(1, heads, frames, width)
    keys[:, :, at] = 50.0
    return CrossInputs(attention, torch.ones(1, 3, NETWORK.transformer.width), keys)


@torch.no_grad()
def test_the_loss_grows_with_the_distance_from_the_frame() -> None:
    frames = torch.tensor([[[7.0, NAN, NAN], [7.0, NAN, NAN]]])
    found = [float(guide_loss([attending(at)], frames, 20, 1.5)) for at in (7, 8, 11)]
    assert found == pytest.approx([0.0, 2 / 4.5, 2 * 16 / 4.5], rel=1e-3)  # two heads of distance² / 2 sigma²
    assert float(guide_loss([attending(7), attending(11)], frames, 20, 1.5)) == pytest.approx(16 / 4.5, rel=1e-3)


@torch.no_grad()
def test_memory_is_never_near() -> None:
    frames = torch.tensor([[[19.0, 19.0, 19.0], [19.0, 19.0, 19.0]]])
    assert guide_loss([attending(20, frames=25)], frames, 20, 1.5) > 100
    assert guide_loss([attending(20, frames=25)], frames, 21, 1.5) < 2


def test_nothing_but_padding_costs_nothing_and_has_a_gradient() -> None:
    layer = attending(3)
    loss = guide_loss([layer], torch.full((1, 2, 3), NAN), 20, 1.5)
    loss.backward()
    gradient = layer.attention.q.weight.grad
    assert loss == 0
    assert gradient is not None
    assert gradient.isfinite().all()


@pytest.mark.parametrize("memory", [None, MemoryConfig(length=4)])
def test_a_step_is_guided_in_training_alone(memory: MemoryConfig | None) -> None:
    network = replace(NETWORK, memory=memory)
    found = {}
    for weight in (0.0, 0.5):
        step = TranscriberStep(new_model(network, 0), 0.0, 2, guide_weight=weight)
        found[weight] = step(batch())
        assert step.eval()(batch())[1].keys() == {"nats", "right"}
    (plain, names), (guided, metrics) = found[0.0], found[0.5]
    assert "guide" not in names
    torch.testing.assert_close(guided, plain + 0.5 * metrics["guide"])


def test_the_guide_moves_attention_to_the_frames() -> None:
    step, given = TranscriberStep(new_model(NETWORK, 0), 0.0, 1, guide_weight=1.0), batch()
    optimiser = torch.optim.Adam(step.parameters(), 0.01)
    losses = []
    for _ in range(30):
        loss, metrics = step(given)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(metrics["guide"]))
    assert losses[-1] < 0.5 * losses[0]


def test_a_single_head_is_guided_to_the_next_id() -> None:
    sizes = replace(NETWORK.transformer, heads=1)
    step = TranscriberStep(new_model(replace(NETWORK, transformer=sizes), 0), 0.0, 1, guide_weight=1.0)
    assert step(batch())[1]["guide"] > 0
