"""Names of tensors in upstream's files, as (pattern, our name).

Upstream's torch ports store the input projection and the token table twice, under two names each, and YourMT3 its
frequencies of rotations once for each layer; all are listed, so that loading checks that they are equal. Lightning adds
``model.`` to every name.
"""

from __future__ import annotations

Renames = tuple[tuple[str, str], ...]

_PREFIX = r"(?:model\.)?"


def _stack(theirs: str, ours: str, *, crosses: bool) -> Renames:
    layer, mine = rf"{_PREFIX}{theirs}\.block\.(\d+)\.layer", rf"{ours}.layers.\1"
    last = 2 if crosses else 1
    cross = (
        (rf"{layer}\.1\.EncDecAttention\.([qkvo])\.weight", rf"{mine}.cross.\2.weight"),
        (rf"{layer}\.1\.layer_norm\.weight", rf"{mine}.norm_cross.weight"),
    )
    return (
        (rf"{_PREFIX}{theirs}\.pos_emb\.inv_freq", f"{ours}.frequencies"),
        (rf"{layer}\.0\.SelfAttention\.([qkvo])\.weight", rf"{mine}.attention.\2.weight"),
        (rf"{layer}\.0\.layer_norm\.weight", rf"{mine}.norm_attention.weight"),
        *(cross if crosses else ()),
        (rf"{layer}\.{last}\.DenseReluDense\.(wi_0|wi_1|wo)\.weight", rf"{mine}.feed_forward.\2.weight"),
        (rf"{layer}\.{last}\.layer_norm\.weight", rf"{mine}.norm_feed_forward.weight"),
        (rf"{_PREFIX}{theirs}\.final_layer_norm\.weight", f"{ours}.norm.weight"),
    )


_LAYER = rf"{_PREFIX}encoder\.blocks\.(\d+)\.(local|temporal)_transformer\.(\d+)"
_MINE = r"encoder.blocks.\1.\2.\3"
_CROSS = rf"{_PREFIX}encoder\.blocks\.(\d+)\.spectral_cross_attention"
_READS = r"encoder.blocks.\1.cross"
_CONVOLUTION = rf"{_PREFIX}pre_encoder\.0\.blocks\.(\d+)"
_ANY_BLOCK = rf"{_PREFIX}encoder\.blocks\.\d+"

PERCEIVER: Renames = (
    (rf"{_PREFIX}spectrogram\.stft\.window", "window"),
    (rf"{_CONVOLUTION}\.bn(\d)\.(\w+)", r"encoder.convolutions.\1.norm\2.\3"),
    (rf"{_CONVOLUTION}\.(conv\d|shortcut)\.(\w+)", r"encoder.convolutions.\1.\2.\3"),
    (rf"{_PREFIX}encoder\.latent_array\.latents", "encoder.latents"),
    (rf"{_PREFIX}encoder\.rotary_emb_sca\.freqs", "encoder.cross_frequencies"),
    (rf"{_PREFIX}encoder\.rotary_emb_latent\.freqs", "encoder.local_frequencies"),
    (rf"{_PREFIX}encoder\.rotary_emb_temporal\.freqs", "encoder.temporal_frequencies"),
    (rf"{_CROSS}\.self\.rotary_emb\.freqs", "encoder.cross_frequencies"),
    (
        rf"{_ANY_BLOCK}\.(local|temporal)_transformer\.\d+\.attention\.self\.rotary_emb\.freqs",
        r"encoder.\1_frequencies",
    ),
    (rf"{_CROSS}\.self\.layernorm1\.weight", rf"{_READS}.norm_latents.weight"),
    (rf"{_CROSS}\.self\.layernorm2\.weight", rf"{_READS}.norm_source.weight"),
    (rf"{_CROSS}\.self\.(query|key|value)\.(\w+)", rf"{_READS}.attention.\2.\3"),
    (rf"{_CROSS}\.output\.dense\.(\w+)", rf"{_READS}.attention.output.\2"),
    (rf"{_LAYER}\.attention\.self\.layernorm1\.weight", rf"{_MINE}.norm_attention.weight"),
    (rf"{_LAYER}\.attention\.self\.(query|key|value)\.(\w+)", rf"{_MINE}.attention.\4.\5"),
    (rf"{_LAYER}\.attention\.output\.dense\.(\w+)", rf"{_MINE}.attention.output.\4"),
    (rf"{_LAYER}\.layernorm\.weight", rf"{_MINE}.norm_experts.weight"),
    (rf"{_LAYER}\.mlp\.gate\.weight", rf"{_MINE}.experts.router.weight"),
    (rf"{_LAYER}\.mlp\.experts\.(\d+)\.(w1|w2|gate)\.weight", rf"{_MINE}.experts.experts.\4.\5.weight"),
    (rf"{_PREFIX}pre_decoder\.0\.linear\.weight", "project.weight"),
    (rf"{_PREFIX}embed_tokens\.weight", "embedding.weight"),
    (rf"{_PREFIX}lm_head\.lm_head\.weight", "head.weight"),
    (rf"{_PREFIX}decoder\.decoder\.additive_pe\.weight", "decoder.table"),
    *_stack(r"decoder\.decoder", "decoder", crosses=True),
)

RENAMES: Renames = (
    (rf"{_PREFIX}(?:proj|encoder\.embed_tokens)\.weight", "project.weight"),
    (rf"{_PREFIX}(?:decoder_embed_tokens|decoder\.embed_tokens)\.weight", "embedding.weight"),
    (rf"{_PREFIX}(?:segmem_proj|segmem_encoder\.embed_tokens)\.weight", "memory.project.weight"),
    (rf"{_PREFIX}lm_head\.weight", "head.weight"),
    *_stack("encoder", "encoder", crosses=False),
    *_stack("decoder", "decoder", crosses=True),
    *_stack("segmem_encoder", "memory.stack", crosses=False),
)
