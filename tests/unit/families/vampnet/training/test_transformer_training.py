"""Training of the transformers: ratios that continue after a stop, and updates that change nothing at first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from jukebox_core.families.vampnet.model.lora import is_lora, merge_lora
from jukebox_core.families.vampnet.training.initialise import answer_by_frequency, new_transformer, with_updates
from jukebox_core.families.vampnet.training.transformer_step import TransformerStep
from tests.helpers.models.tiny_vampnet import C2F, COARSE

if TYPE_CHECKING:
    from jukebox_core.families.vampnet.config import TransformerConfig


def books(count: int) -> torch.Tensor:
    """Vectors that differ by little, and not at all in their last dimension."""
    found = 4 + 0.1 * torch.randn(count, 12, 3, generator=torch.Generator().manual_seed(2))
    found[..., -1] = 5.0
    return found


def codes(items: int = 4, steps: int = 6) -> torch.Tensor:
    return torch.randint(12, (items, 5, steps), generator=torch.Generator().manual_seed(1))


def test_all_weights_of_a_new_transformer_learn() -> None:
    model = new_transformer(COARSE, books(2), 0)
    step = TransformerStep(model, 0.1, 0).train()
    loss, metrics = step(codes(), torch.Generator().manual_seed(0))
    loss.backward()
    assert set(metrics) == {"bits"}
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(("sizes", "count"), [(COARSE, 2), (C2F, 5)], ids=["coarse", "c2f"])
def test_the_logits_of_training_are_those_of_sampling(sizes: TransformerConfig, count: int) -> None:
    model = new_transformer(sizes, books(count), 0).requires_grad_(requires_grad=False).eval()
    torch.nn.init.normal_(model.classifier.bias, generator=torch.Generator().manual_seed(3))
    given = codes()[:, :count]
    assert torch.allclose(model.ordered(given), model(given), atol=1e-5)


@pytest.mark.parametrize(("sizes", "count"), [(COARSE, 2), (C2F, 5)], ids=["coarse", "c2f"])
def test_a_new_transformer_knows_how_often_codes_occur(sizes: TransformerConfig, count: int) -> None:
    drawn = torch.rand(5, 4000, generator=torch.Generator().manual_seed(4))
    grid = (12 * drawn ** torch.arange(3, 8)[:, None]).long()  # low codes are frequent, more so in later books
    counted = new_transformer(sizes, books(count), 0).requires_grad_(requires_grad=False)
    plain = new_transformer(sizes, books(count), 0)
    answer_by_frequency(counted, [grid[:, :2000], grid[:, 2000:]])
    assert counted.classifier.bias.shape == plain.classifier.bias.shape
    nats = [float(TransformerStep(each, 0.0, 0).eval()(grid[None, :, :200])[0].detach()) for each in (counted, plain)]
    shares = (
        torch.stack([torch.bincount(row, minlength=12) for row in grid[sizes.n_conditioning_codebooks : count]]) / 4000
    )
    entropy = float(-(shares * (shares + 1e-9).log()).sum(1).mean())
    assert nats[0] < entropy + 0.2
    assert nats[1] > nats[0] + 0.3


def test_a_new_transformer_separates_vectors_that_differ_by_little() -> None:
    model = new_transformer(COARSE, books(2), 0).requires_grad_(requires_grad=False)
    given = codes(64)[:, :2]
    inputs = model.embedding(given, model.codebooks_KVD)
    masked = model.embedding(torch.full_like(given, 12), model.codebooks_KVD)
    assert 0.3 < float(inputs.std()) < 3
    assert float(inputs.mean(1).abs().mean()) < 1
    assert 0.05 < float(masked.std()) < 3


def test_the_sequence_of_ratios_continues_from_a_checkpoint() -> None:
    one, other = (TransformerStep(new_transformer(C2F, books(5), 0), 0.0, 7).train() for _ in range(2))
    drawn = [one._draw(3) for _ in range(4)]
    other.load_state_dict({**other.state_dict(), "drawn": torch.tensor(6)})
    assert torch.equal(other._draw(3), drawn[2])
    assert torch.equal(other._draw(3), drawn[3])


def test_evaluation_draws_no_ratio_and_is_the_same_again() -> None:
    step = TransformerStep(new_transformer(C2F, books(5), 0), 0.0, 0).eval()
    found = [float(step(codes(), torch.Generator().manual_seed(0))[0].detach()) for _ in range(2)]
    assert found[0] == found[1]
    assert int(step.drawn) == 0


def test_new_updates_change_nothing_and_are_all_that_learns() -> None:
    model = new_transformer(COARSE, books(2), 0).eval()
    tuned = with_updates(model, 3, 0).eval()
    given = codes()[:, :2]
    assert torch.allclose(tuned(given), model(given), atol=1e-6)
    assert all(parameter.requires_grad == is_lora(name) for name, parameter in tuned.named_parameters())
    TransformerStep(tuned, 0.0, 0)(codes())[0].backward()
    torch.optim.Adam([each for each in tuned.parameters() if each.requires_grad], 0.1).step()
    changed = tuned(given)
    assert not torch.allclose(changed, model(given), atol=1e-4)
    merge_lora(tuned)
    assert torch.allclose(tuned(given), changed, atol=1e-5)


def test_dropout_depends_on_the_generator_alone_and_leaves_torchs_own_as_it_was() -> None:
    step = TransformerStep(new_transformer(C2F, books(5), 0), 0.0, 0).train()
    found = []
    for seed in (1, 1, 2):
        step.drawn.zero_()
        torch.manual_seed(len(found))
        before = torch.get_rng_state()
        found.append(float(step(codes(), torch.Generator().manual_seed(seed))[0].detach()))
        assert torch.equal(torch.get_rng_state(), before)
    assert found[0] == found[1] != found[2]


def test_heads_of_a_new_transformer_begin_with_the_steps_around_their_own() -> None:
    bias = new_transformer(C2F, books(5), 0).bias(5)[0].detach()
    middle = bias[:, 2]  # of the third step, to every step
    assert middle[0].argmax() == 1
    assert middle[1].argmax() == 3
