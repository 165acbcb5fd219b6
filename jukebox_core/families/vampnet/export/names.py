"""Names of the graphs of a VampNet. Imports no torch."""

from __future__ import annotations

from jukebox_core.families.vampnet.config import C2F, COARSE, CODEC

ENCODER, DECODER = "encoder", "decoder"
ROLE_OF_GRAPH = {ENCODER: CODEC, DECODER: CODEC, COARSE: COARSE, C2F: C2F}
