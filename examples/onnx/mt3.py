"""Transcribes a 16-bit WAV file: mt3.py GRAPHS song.wav prints the ids of each segment, a list a line."""

import json
import sys
import wave
from pathlib import Path

import numpy as np
import onnxruntime


def load(folder, name):
    return onnxruntime.InferenceSession(str(folder / f"{name}.onnx"))


def mel_matrix(facts):  # triangles of height 1, equally spaced in mel
    how, rate = facts["spectrogram"], facts["sample_rate"]
    hz = np.linspace(0, rate / 2, facts["fft"] // 2 + 1)
    low, high = 2595 * np.log10(1 + np.array([how["low_hz"], how["high_hz"]]) / 700)
    edges = np.linspace(low, high, how["mels"] + 2)
    is_mel = how["slopes"] == "mel"
    x = 2595 * np.log10(1 + hz / 700) if is_mel else hz
    edges = edges if is_mel else 700 * (10 ** (edges / 2595) - 1)
    rising = (x[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - x[:, None]) / (edges[2:] - edges[1:-1])
    weights = np.maximum(0, np.minimum(rising, falling))
    weights[0] = 0 if is_mel else weights[0]
    return weights


def spectrogram(audio, facts, mel):
    """Log-mels [1, F, M] of a segment."""
    fft, hop = facts["fft"], facts["hop"]
    padded = np.pad(audio, (0, fft - hop))
    frames = np.lib.stride_tricks.sliding_window_view(padded, fft)[::hop] * np.hanning(fft + 1)[:-1]
    x = np.abs(np.fft.rfft(frames)) @ mel
    logs = np.log(np.where(x > 0, x, 1e-5))
    return (np.clip(logs, -12, 5) + 12)[None] / 17 if facts["spectrogram"]["normalise"] else logs[None]


def main(folder, source):
    facts = json.loads((folder / "step.json").read_text())["application"]
    with wave.open(source) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
    encoder, start, step = (load(folder, name) for name in ("encoder", "start", "step"))
    mel, size = mel_matrix(facts), facts["segment_samples"]
    for at in range(0, len(samples) // facts["hop"] * facts["hop"] + 1, size):
        audio = np.pad(samples[at : at + size], (0, max(0, at + size - len(samples))))
        frames = spectrogram(audio, facts, mel).astype(np.float32)
        frames[:, (len(samples) - at) // facts["hop"] + 1 :] = 0  # after the end of the recording
        cross = start.run(None, {"source": encoder.run(None, {"frames": frames})[0]})[0]
        past, ids = cross[:, :, :, :, :0], [facts["pad_id"]]
        while ids[-1] != facts["eos_id"] and len(ids) < facts["max_tokens"]:
            logits, past = step.run(None, {"ids": np.array(ids[-1:]), "past": past, "cross": cross})
            ids.append(int(logits[0].argmax()))
        print(ids[1:])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
