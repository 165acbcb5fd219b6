"""Encodes audio to codes: prompts of a run, and audio files."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from jukebox_core.family import open_family
from jukebox_core.store.spooled import open_store
from jukebox_core.tokens.codes import Codes, write_codes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from stages.resident import CodecSpec
    from stages.sampling.prompt import Excerpt, Prompt

log = logging.getLogger("jukebox")


def encode_prompt(codec: CodecSpec, prompt: Prompt, store: str) -> None:
    """Seals a prompt's codes, each level under its own key; idempotent: stored levels are skipped."""
    tokens = open_store(store)
    missing = [level for level, key in enumerate(prompt.keys) if not tokens.sealed(key)]
    if not missing:
        log.info("prompt %s: codes reused", prompt.excerpt.path)
        return
    audio = prompt.excerpt.read(codec.config)
    prompt.check(audio)
    for level, codes in zip(missing, encode_audio(codec, audio, missing), strict=True):
        tokens.seal(prompt.keys[level], codes, first=0, causes=prompt.causes[level])
    log.info("prompt %s: %.2f s encoded", prompt.excerpt.path, len(audio) / codec.config.sample_rate)


def encode_file(codec: CodecSpec, excerpt: Excerpt, levels: Sequence[int], path: Path) -> Path:
    """Writes the codes file of one excerpt, and returns its path."""
    codes = encode_audio(codec, excerpt.read(codec.config), levels)
    write_codes(path, Codes(dict(zip(levels, codes, strict=True)), codes_header(codec)))
    return path


def codes_header(codec: CodecSpec) -> dict[str, object]:
    """Returns the description of the codec for the header of a codes file."""
    return {
        "model": codec.config.name,
        maker_key(codec.family): codec.weights.identity,
        "sample_rate": codec.config.sample_rate,
        "hops": list(codec.config.hops),
    }


def maker_key(family: str) -> str:
    """Returns the name of the header field with the digest of the codec that made a codes file."""
    return f"{open_family(family).codec_role}_sha256"


def encode_audio(codec: CodecSpec, audio: NDArray[np.float32], levels: Sequence[int]) -> list[NDArray[np.int32]]:
    """Returns the codes of mono audio [time] at each of `levels`, int32 [..., tokens]."""
    return [codes[0] for codes in codec.open().encode(audio[None], levels)]
