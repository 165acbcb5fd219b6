"""Weights to start from: random ones, or a codec that begins as a lapped transform with fitted codebooks.

A convolution of kernel 2 s and stride s sees two blocks of s. If the stages but the last only gather the samples of a
block into channels, then the last one sees two blocks of a token's length, and can hold the cosines of a lapped
transform (MDCT, Princen and Bradley 1986), whose overlapping pieces add up to the signal again. The decoder is the same
backwards. Residual units begin without effect. Training is free to change all of this.

Legend: C channels, S stride, N samples of a token, M coefficients.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from jukebox_core.families.vampnet.model.codec import Codec, DecoderStage, EncoderStage
from jukebox_core.families.vampnet.model.convolution import Residual, Snake, WNConv1d, WNConvTranspose1d
from jukebox_core.families.vampnet.model.lora import is_lora, train_only_lora
from jukebox_core.families.vampnet.model.positions import bucket_of
from jukebox_core.families.vampnet.model.transformer import VampTransformer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jukebox_core.families.vampnet.config import CodecConfig, TransformerConfig

_STRAIGHT = 0.005  # frequency of snakes that the signal passes: nearly the identity
_BENT = 5.0  # of those in residual units, at the level of music
_SAME = 1e-3  # spread of a dimension, relative to its mean, below which its values count as one
_PLAIN, _PREFERRED = 0.1, 8.0  # relative biases of attention: their spread, and that of a preferred neighbour
_LOGITS = 0.2  # mean norm of a code's row in the classifier
_SPARE = 0.1  # norm of filters that are not part of the transform

_Conv = WNConv1d | WNConvTranspose1d


def new_codec(config: CodecConfig, seed: int, *, lapped: bool) -> Codec:
    """Returns a codec with random weights, drawn from `seed`, or one that begins as a lapped transform."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        codec = Codec(config)
        _match_gains(codec)
        if lapped:
            _make_lapped(codec)
    return codec.requires_grad_(requires_grad=True)


def new_transformer(config: TransformerConfig, codebooks_KVD: Tensor, seed: int) -> VampTransformer:
    """Returns a transformer with random weights, drawn from `seed`, over the vectors of these codebooks.

    Vectors differ by little from their mean where a codec was trained so. The projection begins with their differences
    at a spread of 1, and masks as vectors like them: otherwise the first hundreds of steps would only learn that. For
    the same reason codes are answered by their vectors, and some heads begin with the steps around their own.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VampTransformer(config)
        _match_gains(model)
    model.codebooks_KVD = codebooks_KVD
    mean_KD, spread_KD = codebooks_KVD.mean(1), codebooks_KVD.std(1)
    spread_KD = torch.where(spread_KD > _SAME * mean_KD.abs(), spread_KD, 1.0).clamp(min=_SAME)
    with torch.no_grad():
        _answer_in_vectors(model, (codebooks_KVD - mean_KD[:, None]) / spread_KD[:, None])
        embedding = model.embedding
        embedding.mask_KD.mul_(spread_KD).add_(mean_KD)
        embedding.project.weight.div_(spread_KD.reshape(1, -1, 1))
        _look_at_neighbours(model)
        embedding.project.bias -= embedding.project.weight[:, :, 0] @ mean_KD.flatten()  # type: ignore[operator]
    return model.requires_grad_(requires_grad=True)


def _answer_in_vectors(model: VampTransformer, vectors_KVD: Tensor) -> None:
    """Makes the classifier's row of each code its vector as the projection embeds it: near codes have near logits."""
    sizes, first = model.config, model.config.n_conditioning_codebooks
    weight_WKD = model.embedding.project.weight[:, :, 0].view(sizes.embedding_dim, sizes.n_codebooks, -1)
    rows_VPW = torch.einsum("wpd,pvd->vpw", weight_WKD[:, first:], vectors_KVD[first:])
    weight_v, weight_g = model.classifier.weight_v, model.classifier.weight_g
    weight_v.copy_(rows_VPW.reshape(weight_v.shape))
    weight_g.copy_(_norms(weight_v) * (_LOGITS / _norms(weight_v).mean()))


def _look_at_neighbours(model: VampTransformer) -> None:
    """Makes heads in turn prefer the step before, the step after, and none."""
    table_BH = model.positions.weight
    table_BH.mul_(_PLAIN)
    for head in range(table_BH.shape[1]):
        distance = (-1, 1, None)[head % 3]
        if distance is not None:
            table_BH[bucket_of(torch.tensor(distance)), head] = _PREFERRED


@torch.no_grad()
def answer_by_frequency(model: VampTransformer, grids: Iterable[Tensor]) -> None:
    """Makes the biases of a new classifier the logarithms of how often each code occurs in grids [K, T].

    Codebooks of residuals have codes that are much more frequent than others: learning that takes a hundred steps.
    """
    sizes = model.config
    counts_PV = torch.ones(sizes.n_predicted, sizes.vocab_size)
    for grid_KT in grids:
        predicted_PT = grid_KT[sizes.n_conditioning_codebooks : sizes.n_codebooks]
        counts_PV.scatter_add_(1, predicted_PT, torch.ones(predicted_PT.shape))
    model.classifier.bias.copy_((counts_PV / counts_PV.sum(1, keepdim=True)).log().mT.flatten())


def with_updates(model: VampTransformer, rank: int, seed: int) -> VampTransformer:
    """Returns a transformer with new low-rank updates, which change nothing yet, as the only parts that learn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = VampTransformer(model.config, rank)
    missing, extra = made.load_state_dict(model.state_dict(), strict=False)
    assert not extra, "the updates were merged before"
    assert all(map(is_lora, missing))
    made.codebooks_KVD = model.codebooks_KVD
    train_only_lora(made)
    return made


def lapped_basis(size: int, count: int) -> Tensor:
    """Returns the first `count` of `size` cosines of a lapped transform under a sine window, [count, 2 size]."""
    at, number = torch.arange(2 * size) + 0.5, torch.arange(count) + 0.5
    window = (at * (math.pi / (2 * size))).sin()
    waves_MN = (number[:, None] * (at + size / 2) * (math.pi / size)).cos()
    return waves_MN * window * math.sqrt(2 / size)


@torch.no_grad()
def _match_gains(module: nn.Module) -> None:
    """Makes the gain of each normalised convolution the norm of its random direction."""
    for each in module.modules():
        if isinstance(each, WNConv1d | WNConvTranspose1d):
            each.weight_g.copy_(_norms(each.weight_v))


@torch.no_grad()
def _make_lapped(codec: Codec) -> None:
    config = codec.config
    count = min(config.latent_width, config.decoder_dim, config.hop)
    basis_MN = lapped_basis(config.hop, count)
    for each in codec.modules():
        if isinstance(each, Snake):
            each.alpha.fill_(_STRAIGHT)
    for each in codec.modules():
        if isinstance(each, Residual):
            each.snake_1.alpha.fill_(_BENT)
            each.snake_2.alpha.fill_(_BENT)
            each.conv_1.weight_g.fill_(1.0)
            each.conv_2.weight_g.zero_()
    # 1) encoder: samples into channels, then the transform
    _set(codec.encoder.first, _identity(1, 1, 7))
    block = 1
    for stage in cast("list[EncoderStage]", list(codec.encoder.stages)[:-1]):
        _set(stage.conv, _gathering(block, stage.conv.stride))
        block *= stage.conv.stride
    last = cast("EncoderStage", codec.encoder.stages[-1]).conv
    _set(last, basis_MN.view(count, 2 * last.stride, block).transpose(1, 2))
    _set(codec.encoder.last, _identity(count, count, 3))
    # 2) decoder: the transform, then channels into samples
    _set(codec.decoder.first, _identity(count, count, 7))
    stages = cast("list[DecoderStage]", list(codec.decoder.stages))
    block = config.hop // stages[0].conv.stride
    _set_transposed(stages[0].conv, basis_MN.view(count, 2 * stages[0].conv.stride, block).transpose(1, 2))
    for later in stages[1:]:
        stride = later.conv.stride
        _set_transposed(later.conv, _gathering(block // stride, stride))
        block //= stride
    _set(codec.decoder.last, _identity(1, 1, 7))


def _identity(outputs: int, inputs: int, kernel: int) -> Tensor:
    weight = torch.zeros(outputs, inputs, kernel)
    weight[range(outputs), range(inputs), kernel // 2] = 1.0
    return weight


def _gathering(block: int, stride: int) -> Tensor:
    """Returns the weight [S C, C, 2 S] that gathers C samples of S steps in S C channels; transposed, it is undone."""
    weight = torch.zeros(stride * block, block, 2 * stride)
    for step in range(stride):
        at = torch.arange(block)
        weight[step * block + at, at, stride // 2 + step] = 1.0
    return weight


def _set(conv: WNConv1d, weight_OIK: Tensor) -> None:
    """Sets the first outputs of a convolution; they read the first inputs alone. The others stay random."""
    outputs, inputs = weight_OIK.shape[:2]
    whole = conv.weight_v * (_SPARE / _norms(conv.weight_v))
    whole[:outputs] = 0.0
    whole[:outputs, :inputs] = weight_OIK
    conv.weight_v.copy_(whole)
    conv.weight_g.copy_(_norms(whole))


def _set_transposed(conv: WNConvTranspose1d, weight_IOK: Tensor) -> None:
    """Sets the first inputs of a transposed convolution; what the others hold is not heard yet."""
    inputs, outputs = weight_IOK.shape[:2]
    whole = conv.weight_v * (_SPARE / _norms(conv.weight_v))
    whole[:inputs, :outputs] = weight_IOK
    conv.weight_v.copy_(whole)
    conv.weight_g.copy_(_norms(whole))
    conv.weight_g[inputs:] = 0.0


def _norms(weight_v: Tensor) -> Tensor:
    return weight_v.square().sum(tuple(range(1, weight_v.ndim)), keepdim=True).sqrt()
