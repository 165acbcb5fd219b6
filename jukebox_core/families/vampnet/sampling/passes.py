"""The passes that fill a masked grid: each draws every masked token, keeps the most confident, and masks the others.

    noise = CounterGridNoise(...)
    state = start(model, codes, mask)
    while state.done < config.steps:
        state = advance(model, state, config, noise)

The functions are pure. Legend: B items, K codebooks, P predicted, T time, N = T P tokens, time-major, V codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor

from jukebox_core.errors import NumericsError
from jukebox_core.families.vampnet.masks.parts import apply, gamma
from jukebox_core.families.vampnet.model.transformer import flatten_books, unflatten_books
from jukebox_core.families.vampnet.sampling.filters import nucleus, typical
from jukebox_core.families.vampnet.sampling.noise import GridSize

if TYPE_CHECKING:
    from collections.abc import Callable

    from jukebox_core.families.vampnet.config import TransformerConfig
    from jukebox_core.families.vampnet.sampling.config import PassConfig
    from jukebox_core.families.vampnet.sampling.noise import GridNoise, PassNoise


class MaskedModel(Protocol):
    """A transformer, whatever computes it."""

    @property
    def config(self) -> TransformerConfig:
        """Its sizes."""
        ...

    @property
    def device(self) -> torch.device:
        """Where codes and logits are."""
        ...

    def __call__(self, codes_BKT: Tensor) -> Tensor:
        """Returns logits [B, N, V] of grids with masked tokens."""
        ...


@dataclass(frozen=True, slots=True)
class GridState:
    """A batch of grids between two passes."""

    codes_BKT: Tensor  # int64, with the id of the mask where tokens are still generated
    given_BCT: Tensor  # codes of the books that condition, as they were given: upstream shows masked ones to one pass
    masked_B: Tensor  # masked tokens before the first pass, of each item, or in parity of the whole batch
    done: int = 0  # passes


class Scored(NamedTuple):
    """What a pass computes besides its result; tests compare it with upstream's."""

    drawn_BN: Tensor  # tokens of all places
    token_BN: Tensor  # drawn where they were masked, else those that are kept
    probability_BN: Tensor  # of the drawn token
    confidence_BN: Tensor  # infinite where a token was not masked
    count_B1: Tensor  # tokens that are masked again, at most
    threshold_B1: Tensor  # confidences below it are masked again
    masked_BN: Tensor


def start(config: TransformerConfig, codes_BKT: Tensor, mask_BKT: Tensor | None, *, parity: bool = False) -> GridState:
    """Returns the state before the first pass.

    Args:
        config: of the transformer.
        codes_BKT: codes; those with the id of the mask are generated too.
        mask_BKT: tokens to be generated; None: all that the transformer predicts.
        parity: count masked tokens over the whole batch, as upstream does, so that items depend on each other.
    """
    if mask_BKT is None:
        mask_BKT = torch.ones_like(codes_BKT, dtype=torch.bool)
        mask_BKT[:, : config.n_conditioning_codebooks] = False
    if mask_BKT.ndim == 2:
        mask_BKT = mask_BKT[:, None].expand_as(codes_BKT)
    masked_BKT = apply(codes_BKT, mask_BKT, config.mask_id)
    count_B = (masked_BKT == config.mask_id).flatten(1).sum(1)
    given_BCT = codes_BKT[:, : config.n_conditioning_codebooks]
    return GridState(masked_BKT, given_BCT, count_B.sum().expand(len(count_B)) if parity else count_B)


@torch.inference_mode()
def advance(
    model: MaskedModel,
    state: GridState,
    config: PassConfig,
    noise: GridNoise,
    *,
    parity: bool = False,
    observe: Callable[[Tensor, Scored], None] | None = None,
) -> GridState:
    """Returns the state after one more pass.

    Args:
        model: the transformer.
        state: the grids.
        config: number of passes, temperatures, filters.
        noise: its random numbers.
        parity: reproduce upstream: no typical filter, and temperature 0 as 1.
        observe: receives logits [B, N, V] and scores.

    Raises:
        NumericsError: logits are not finite.
    """
    sizes = model.config
    logits_BNV = model(state.codes_BKT)
    if not torch.isfinite(logits_BNV).all():
        raise NumericsError(f"pass {state.done + 1} computes logits that are not finite; use float32, or other weights")
    items, steps = state.codes_BKT.shape[0], state.codes_BKT.shape[2]
    draws = config.draws(state.done, parity=parity)
    size = GridSize(items, steps, sizes.n_predicted, sizes.vocab_size)
    random = noise.draw(state.done, size, tokens=draws)
    scored = score(logits_BNV, state, sizes, config, random, parity=parity)
    if observe is not None:
        observe(logits_BNV, scored)
    flat_BN = scored.token_BN.masked_fill(scored.masked_BN, sizes.mask_id)
    codes_BKT = torch.cat([state.given_BCT, unflatten_books(flat_BN, sizes.n_predicted)], 1)
    return GridState(codes_BKT, state.given_BCT, state.masked_B, state.done + 1)


def score(
    logits_BNV: Tensor,
    state: GridState,
    sizes: TransformerConfig,
    config: PassConfig,
    noise: PassNoise,
    *,
    parity: bool = False,
) -> Scored:
    """Returns the tokens of a pass, and which of them are masked again.

    1. Filter the logits, divide by the temperature, and draw: the largest ratio of probability to exponential.
    2. Of how many tokens are masked, gamma of the share of passes that are done remains, but at least one until the
       last pass, and always fewer than before.
    3. The tokens with the least confidence are masked again: logarithm of the probability, plus fading Gumbel noise.
    """
    # 1)
    filtered_BNV = filtered(logits_BNV, config, parity=parity)
    temperature = config.temperature if config.temperature > 0 else 1.0
    p_BNV = (filtered_BNV / temperature).softmax(-1)
    if noise.tokens_BNV is None:
        drawn_BN = filtered_BNV.argmax(-1)
    else:
        drawn_BN = (p_BNV / noise.tokens_BNV.to(p_BNV.device)).argmax(-1)
    drawn_p_BN = p_BNV.gather(-1, drawn_BN[..., None])[..., 0]
    current_BN = flatten_books(state.codes_BKT[:, sizes.n_conditioning_codebooks :])
    was_masked_BN = current_BN == sizes.mask_id
    token_BN = torch.where(was_masked_BN, drawn_BN, current_BN)
    # 2)
    ratio = torch.tensor((state.done + 1) / config.steps)
    count_B1 = (gamma(ratio).to(token_BN.device) * state.masked_B[:, None]).floor().long()
    if state.done + 1 < config.steps:
        fewer_B1 = was_masked_BN.sum(1, keepdim=True) - 1
        count_B1 = torch.minimum(fewer_B1, count_B1).clamp(min=1)
    # 3)
    certain_BN = torch.where(was_masked_BN, drawn_p_BN, torch.inf)
    fading = config.mask_temperature * (1 - ratio)
    confidence_BN = certain_BN.log() + fading.to(token_BN.device) * noise.gumbel_BN.to(token_BN.device)
    threshold_B1 = confidence_BN.sort(1).values.gather(1, count_B1.clamp(max=confidence_BN.shape[1] - 1))
    again_BN = confidence_BN < threshold_B1
    return Scored(drawn_BN, token_BN, drawn_p_BN, confidence_BN, count_B1, threshold_B1, again_BN)


def filtered(logits_BNV: Tensor, config: PassConfig, *, parity: bool = False) -> Tensor:
    """Returns the logits after the filters; in parity the typical one has no effect, as upstream discards it."""
    if config.typical and not parity:
        logits_BNV = typical(logits_BNV, config.typical_mass, config.typical_min_tokens)
    if config.top_p is not None and config.top_p < 1:
        logits_BNV = nucleus(logits_BNV, config.top_p)
    return logits_BNV


def generate(
    model: MaskedModel,
    codes_BKT: Tensor,
    mask_BKT: Tensor | None,
    config: PassConfig,
    noise: GridNoise,
    *,
    parity: bool = False,
    observe: Callable[[Tensor, Scored], None] | None = None,
) -> Tensor:
    """Returns codes [B, K, T] whose masked tokens are filled in `config.steps` passes; no mask id is left."""
    state = start(model.config, codes_BKT, mask_BKT, parity=parity)
    while state.done < config.steps:
        state = advance(model, state, config, noise, parity=parity, observe=observe)
    return state.codes_BKT
