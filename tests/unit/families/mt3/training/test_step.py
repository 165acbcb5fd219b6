"""The training step, random weights, and the estimated memory of a training."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from jukebox_core.families.mt3.config import MemoryConfig
from jukebox_core.families.mt3.events.vocabulary import vocabulary_of
from jukebox_core.families.mt3.training.config import TranscriberTraining
from jukebox_core.families.mt3.training.excerpts import IGNORED, Batch
from jukebox_core.families.mt3.training.initialise import new_model
from jukebox_core.families.mt3.training.memory import transcriber_memory
from jukebox_core.families.mt3.training.step import TranscriberStep, shifted_right
from jukebox_core.families.mt3.training.targets import FRAME_KINDS
from jukebox_core.models.presets import load_preset
from jukebox_core.training.config import LoopConfig
from tests.unit.families.mt3.training.test_excerpts import NETWORK

MINI = load_preset("mini_mt3").config.network


def batch(rows: int = 5, ids: int = 9) -> Batch:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, 400, (rows, ids), generator=generator)
    for row in range(rows):
        labels[row, ids - row :] = IGNORED
    front_end = NETWORK.front_end
    return Batch(
        torch.randn(rows, front_end.segment_frames, front_end.mels, generator=generator),
        labels,
        torch.randint(0, 400, (rows, 32), generator=generator),
        torch.rand(rows, front_end.segment_frames, FRAME_KINDS, generator=generator) < 0.01,
    )


def test_the_loss_is_that_of_teacher_forcing_over_labels_that_count() -> None:
    model, given = new_model(NETWORK, 0), batch()
    loss, metrics = TranscriberStep(model, 0.0, 1).eval()(given)
    logits = model(shifted_right(given.labels_BN), model.encode(given.frames_BFM))
    expected = functional.cross_entropy(logits.flatten(0, 1), given.labels_BN.flatten(), ignore_index=IGNORED)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert metrics["nats"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert 0 <= metrics["right"] <= 1


def test_groups_of_similar_length_change_no_loss_and_no_gradient() -> None:
    found = []
    for groups in (1, 3):
        step = TranscriberStep(new_model(NETWORK, 0), 0.0, groups)
        loss, _ = step(batch())
        loss.backward()
        found.append((loss.detach(), step.model.project.weight.grad))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)


def test_the_loss_of_frames_reaches_the_encoder_alone() -> None:
    step = TranscriberStep(new_model(NETWORK, 0), 1.0, 1)
    step.frame_loss(step.model.encode(batch().frames_BFM), batch().kinds_BFK).backward()
    assert step.model.project.weight.grad is not None
    assert step.model.head.weight.grad is None
    with_frames, without = step(batch())[0], TranscriberStep(step.model, 0.0, 1)(batch())[0]
    assert with_frames > without


def test_a_memory_changes_the_loss_by_what_it_holds() -> None:
    network = replace(NETWORK, memory=MemoryConfig(length=4))
    step, given = TranscriberStep(new_model(network, 0), 0.0, 1), batch()
    other = given._replace(before_BN=given.before_BN.roll(1, dims=1))
    assert step(given)[0] != step(other)[0]


def test_shifts_begin_as_positions_of_their_frames() -> None:
    model, vocabulary = new_model(NETWORK, 0), vocabulary_of(NETWORK.vocabulary)
    [row, _] = vocabulary.to_ids([vocabulary.index("shift", 12)])
    similar = functional.cosine_similarity(model.embedding.weight[row], model.encoder.positions(0, 40))
    assert similar.argmax() == 12


def test_heads_begin_at_their_distances() -> None:
    """Without content, each head of the first layer attends most to the frame at its own distance."""
    model = new_model(MINI, 0)
    x = model.encoder.layers[0].norm_attention(model.encoder.positions(0, 64)[None])
    attention = model.encoder.layers[0].attention
    keys, _ = attention.keys_values(x)
    found = (attention._split(attention.q(x)) @ keys.transpose(-1, -2))[0].argmax(dim=-1)
    frames = torch.arange(10, 50)
    for head, distance in enumerate((-1, 1, -3, 3)):
        assert torch.equal(found[head, 10:50], frames + distance)


def test_pitches_have_their_combs() -> None:
    """A tone with harmonics, as a spectrum, is loudest in the dimension of its pitch."""
    model, front_end = new_model(MINI, 0), MINI.front_end
    combs = [row for row in range(MINI.transformer.width) if model.project.weight[row].abs().sum()][:60]
    mels = torch.linspace(1127 * torch.log1p(torch.tensor(20 / 700)), 1127 * torch.log1p(torch.tensor(7600 / 700)), 258)
    for pitch in (45, 60, 72):
        spectrum = torch.zeros(front_end.mels)
        for harmonic in range(1, 7):
            hertz = 440 * 2 ** ((pitch - 69) / 12) * harmonic
            mel = 1127 * torch.log1p(torch.tensor(hertz / 700))
            spectrum = torch.maximum(spectrum, (-0.5 * ((mels[1:-1] - mel) / 12).square()).exp() / harmonic**0.5)
        assert (model.project.weight[combs] @ spectrum).argmax() == pitch - 32


def test_the_memory_of_a_training_grows_with_its_batch_and_with_a_guide() -> None:
    def needs(batch_size: int, guide: float) -> int:
        training = TranscriberTraining(
            loop=LoopConfig(max_steps=1, batch_size=batch_size), segments=2, frame_loss_weight=0.1, guide_weight=guide
        )
        return transcriber_memory(NETWORK, training).step

    assert needs(2, 0.0) < needs(8, 0.0) < needs(8, 0.2)
