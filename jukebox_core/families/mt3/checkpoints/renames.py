"""Names of tensors in upstream's files, as (pattern, our name).

Upstream's torch ports store the input projection and the token table twice, under two names each; both are listed, so
that loading checks that they are equal. Lightning adds ``model.`` to every name.
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


RENAMES: Renames = (
    (rf"{_PREFIX}(?:proj|encoder\.embed_tokens)\.weight", "project.weight"),
    (rf"{_PREFIX}(?:decoder_embed_tokens|decoder\.embed_tokens)\.weight", "embedding.weight"),
    (rf"{_PREFIX}(?:segmem_proj|segmem_encoder\.embed_tokens)\.weight", "memory.project.weight"),
    (rf"{_PREFIX}lm_head\.weight", "head.weight"),
    *_stack("encoder", "encoder", crosses=False),
    *_stack("decoder", "decoder", crosses=True),
    *_stack("segmem_encoder", "memory.stack", crosses=False),
)
