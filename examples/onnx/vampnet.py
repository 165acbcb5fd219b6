"""Varies the first seconds of a 16-bit WAV file of about -24 LUFS: vampnet.py GRAPHS song.wav varied.wav."""

import json
import sys
import wave
from pathlib import Path

import numpy as np
import onnxruntime

SECONDS, PERIOD = 6, 7  # every seventh token is kept


def load(folder, name):
    facts = json.loads((folder / f"{name}.json").read_text())["application"]
    return onnxruntime.InferenceSession(str(folder / f"{name}.onnx")), facts


def fill(graph, facts, codes, steps, rng):  # codes [1, K, T]
    kept, size = facts["conditioning_codebooks"], facts["mask_id"]
    first = np.sum(codes == size)
    for step in range(1, steps + 1):
        logits = graph.run(None, {"codes": codes})[0][0]  # [T P, V], time-major
        probability = np.exp(logits - logits.max(-1, keepdims=True))
        probability /= probability.sum(-1, keepdims=True)
        drawn = (probability / rng.standard_exponential(logits.shape, np.float32)).argmax(-1)
        flat = codes[0, kept:].T.ravel()
        masked = flat == size
        confidence = np.where(masked, np.log(np.take_along_axis(probability, drawn[:, None], 1)[:, 0]), np.inf)
        confidence += 10.5 * (1 - step / steps) * rng.gumbel(size=len(flat)).astype(np.float32)
        flat = np.where(masked, drawn, flat)
        again = int(np.cos(np.float32(step / steps) * np.float32(np.pi) / 2) * first)
        again = max(1, min(again, masked.sum() - 1)) if step < steps else 0
        flat[np.argsort(confidence)[:again]] = size
        codes = np.concatenate([codes[:, :kept], flat.reshape(codes.shape[2], -1).T[None]], 1)
    return codes


def main(folder, source, target, seed=0):
    encoder, facts = load(folder, "encoder")
    with wave.open(source) as file:
        assert file.getframerate() == facts["sample_rate"], "give audio at the model's rate"
        frames = np.frombuffer(file.readframes(SECONDS * facts["sample_rate"]), "<i2")
        audio = frames.reshape(-1, file.getnchannels()).mean(1).astype(np.float32) / 32768
    audio = np.pad(audio, (0, -len(audio) % facts["hop"]))  # the graph would ignore the rest
    codes = encoder.run(None, {"audio": audio[None, None]})[0]
    rng, keep = np.random.default_rng(seed), np.arange(codes.shape[2]) % PERIOD == 0
    for name, steps in (("coarse", 12), ("c2f", 2)):
        graph, sizes = load(folder, name)
        books = slice(sizes["conditioning_codebooks"], sizes["codebooks"])
        codes[:, books] = np.where(keep, codes[:, books], sizes["mask_id"])
        codes[:, : books.stop] = fill(graph, sizes, codes[:, : books.stop], steps, rng)
    sound = load(folder, "decoder")[0].run(None, {"codes": codes})[0][0, 0]
    with wave.open(target, "wb") as file:
        file.setparams((1, 2, facts["sample_rate"], 0, "NONE", ""))
        file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:4])
