"""Names of the weights in OpenAI's checkpoints, mapped to ours: the only place that knows both.

A table is a list of ``(pattern, replacement)`` regular expressions. Applied in order to a checkpoint's key, the first
full match gives our name. A key without a match is left over, which is an error (docs/upstream.md, Layers).
"""

from __future__ import annotations

Renames = tuple[tuple[str, str], ...]

VQVAE_RENAMES: Renames = (
    # The encoder's steps are (strided convolution, stack), the decoder's (stack, transposed convolution).
    (r"encoders\.(\d+)\.level_blocks\.(\d+)\.model\.(\d+)\.0\.(\w+)", r"levels.\1.encoder.\2.layers.\3.strided.\4"),
    (r"decoders\.(\d+)\.level_blocks\.(\d+)\.model\.(\d+)\.1\.(\w+)", r"levels.\1.decoder.\2.layers.\3.strided.\4"),
    (
        r"(en|de)coders\.(\d+)\.level_blocks\.(\d+)\.model\.(\d+)\.[01]\.model\.(\d+)\.model\.1\.(\w+)",
        r"levels.\2.\1coder.\3.layers.\4.stack.blocks.\5.dilated.\6",
    ),
    (
        r"(en|de)coders\.(\d+)\.level_blocks\.(\d+)\.model\.(\d+)\.[01]\.model\.(\d+)\.model\.3\.(\w+)",
        r"levels.\2.\1coder.\3.layers.\4.stack.blocks.\5.pointwise.\6",
    ),
    (r"(en|de)coders\.(\d+)\.level_blocks\.(\d+)\.model\.(\d+)\.(\w+)", r"levels.\2.\1coder.\3.layers.\4.\5"),
    (r"decoders\.(\d+)\.out\.(\w+)", r"levels.\1.output.\2"),
    (r"bottleneck\.level_blocks\.(\d+)\.k", r"levels.\1.codebook"),
)


def _projection(theirs: str, ours: str) -> Renames:
    """Returns the table of a linear layer; they call its parameters w and b, and the weight is [inputs, outputs]."""
    return (rf"{theirs}\.w", rf"{ours}.weight"), (rf"{theirs}\.b", rf"{ours}.bias")


def _body(theirs: str, ours: str) -> Renames:
    """Returns the table of embeddings and transformer: decoder and lyric encoder have the same parts."""
    layer, block = rf"{theirs}\.transformer\._attn_mods\.(\d+)", rf"{ours}.transformer.blocks.\1"
    return (
        (rf"{theirs}\.x_emb\.weight", rf"{ours}.embedding.weight"),
        (rf"{theirs}\.pos_emb\.pos_emb", rf"{ours}.position_PW"),
        *_projection(rf"{layer}\.attn\.c_attn", rf"{block}.attention.project_in"),
        *_projection(rf"{layer}\.attn\.c_enc_kv", rf"{block}.attention.project_encoder"),
        *_projection(rf"{layer}\.attn\.c_proj", rf"{block}.attention.project_out"),
        *_projection(rf"{layer}\.mlp\.c_fc", rf"{block}.feed_forward.project_in"),
        *_projection(rf"{layer}\.mlp\.c_proj", rf"{block}.feed_forward.project_out"),
        (rf"{layer}\.ln_0\.(\w+)", rf"{block}.norm_attention.\2"),
        (rf"{layer}\.ln_1\.(\w+)", rf"{block}.norm_feed_forward.\2"),
    )


_UPSAMPLER = r"conditioner_blocks\.0\.cond\.model"
PRIOR_RENAMES: Renames = (
    *_body("prior", "body"),
    (r"prior\.x_out\.weight", "output.weight"),
    (r"prior\.start_token", "start_1W"),
    (r"y_emb\.artist_emb\.emb\.weight", "labels.artist.weight"),
    (r"y_emb\.bow_genre_emb\.emb\.weight", "labels.genre.weight"),
    (r"y_emb\.total_length_emb\.emb\.weight", "timing.total.weight"),
    (r"y_emb\.(absolute|relative)_pos_emb\.emb\.weight", r"timing.\1.weight"),
    (r"conditioner_blocks\.0\.x_emb\.weight", "above.embedding.weight"),
    (r"conditioner_blocks\.0\.ln\.(\w+)", r"above.norm.\1"),
    (rf"{_UPSAMPLER}\.0\.(\w+)", r"above.upsampler.layers.0.\1"),
    (rf"{_UPSAMPLER}\.(\d+)\.1\.(\w+)", r"above.upsampler.layers.\1.strided.\2"),
    # Where gradients are checkpointed, upstream writes `blocks` instead of `model`.
    (
        rf"{_UPSAMPLER}\.(\d+)\.0\.(?:blocks|model)\.(\d+)\.model\.1\.(\w+)",
        r"above.upsampler.layers.\1.stack.blocks.\2.dilated.\3",
    ),
    (
        rf"{_UPSAMPLER}\.(\d+)\.0\.(?:blocks|model)\.(\d+)\.model\.3\.(\w+)",
        r"above.upsampler.layers.\1.stack.blocks.\2.pointwise.\3",
    ),
    *_body("prime_prior", "lyric_encoder.body"),
    (r"prime_prior\.start_token", "lyric_encoder.start_1W"),
    *_projection("prime_state_proj", "lyric_encoder.project"),
    (r"prime_state_ln\.(\w+)", r"lyric_encoder.norm.\1"),
    (r"prime_x_out\.weight", "lyric_encoder.output.weight"),
)
