"""A soundfont of one sine, for every program and pitch, as bytes (SoundFont 2.01)."""

from __future__ import annotations

import struct

import numpy as np

RATE, PERIOD, PERIODS = 22050, 50, 20  # the sine sounds at 441 Hz
_ROOT = 69  # MIDI pitch of the sample
_KEYNUM, _SAMPLE_MODES, _INSTRUMENT, _SAMPLE = 58, 54, 41, 53  # numbers of generators


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def sine_soundfont() -> bytes:
    """The content of an .sf2 file."""
    sine = np.sin(2 * np.pi * np.arange(PERIOD * PERIODS) / PERIOD) * 20000
    samples = sine.astype("<i2").tobytes() + bytes(2 * 46)
    info = chunk(b"ifil", struct.pack("<HH", 2, 1)) + chunk(b"isng", b"EMU8000\0") + chunk(b"INAM", b"sine\0\0")
    preset = struct.pack("<20sHHHIII", b"sine", 0, 0, 0, 0, 0, 0) + struct.pack("<20sHHHIII", b"EOP", 0, 0, 1, 0, 0, 0)
    bags = struct.pack("<HHHH", 0, 0, 1, 0)
    instrument = struct.pack("<20sH", b"sine", 0) + struct.pack("<20sH", b"EOI", 1)
    in_instrument = [(_SAMPLE_MODES, 1), (_KEYNUM, _ROOT), (_SAMPLE, 0)]
    instrument_bags = struct.pack("<HHHH", 0, 0, len(in_instrument), 0)
    generators = b"".join(struct.pack("<HH", *each) for each in [*in_instrument, (0, 0)])
    header = struct.pack(
        "<20sIIIIIBbHH", b"sine", 0, PERIOD * PERIODS, PERIOD, PERIOD * (PERIODS - 1), RATE, _ROOT, 0, 0, 1
    )
    data = [
        chunk(b"phdr", preset), chunk(b"pbag", bags), chunk(b"pmod", bytes(10)),
        chunk(b"pgen", struct.pack("<HHHH", _INSTRUMENT, 0, 0, 0)), chunk(b"inst", instrument),
        chunk(b"ibag", instrument_bags), chunk(b"imod", bytes(10)), chunk(b"igen", generators),
        chunk(b"shdr", header + struct.pack("<20sIIIIIBbHH", b"EOS", 0, 0, 0, 0, 0, 0, 0, 0, 0)),
    ]  # fmt: skip
    lists = [b"INFO" + info, b"sdta" + chunk(b"smpl", samples), b"pdta" + b"".join(data)]
    return chunk(b"RIFF", b"sfbk" + b"".join(chunk(b"LIST", each) for each in lists))
