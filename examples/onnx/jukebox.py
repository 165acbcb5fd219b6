"""Makes music from nothing at the top level of a Jukebox: jukebox.py GRAPHS song.wav [TOKENS]; prints its codes."""

import json
import sys
import wave
from pathlib import Path

import numpy as np
import onnxruntime

LEVEL = 2


class Graph:
    def __init__(self, folder, name):
        self.record = json.loads((folder / f"{name}.json").read_text())
        self.session = onnxruntime.InferenceSession(str(folder / f"{name}.onnx"))

    def __call__(self, given):  # outputs by name; inputs that the graph does not have are left out
        names = [each["name"] for each in self.record["inputs"]]
        found = self.session.run(None, {name: given[name] for name in names})
        return {each["name"]: value for each, value in zip(self.record["outputs"], found, strict=True)}


def sample(folder, count, seed=0):
    condition, prefill, step = (Graph(folder, f"{part}_{LEVEL}") for part in ("condition", "prefill", "step"))
    facts, rng = step.record["application"], np.random.default_rng(seed)
    # Total length, offset and length of the window, artist 0, genre 0, and no lyrics.
    labels = np.zeros((1, condition.record["inputs"][0]["shape"][1]), np.int64)
    window = facts["context"] * facts["hop"]
    labels[0, :3] = 4 * window, 0, window
    given = {"labels": labels, **condition({"labels": labels})}
    known = facts["lyric_positions"]  # lyric tokens, all 0, where they share the sequence
    tokens = np.zeros((1, facts["positions"]), np.int64)
    given |= prefill({**given, "tokens": tokens, "known": np.array([known])})
    token, codes = np.zeros(1, np.int64), []
    for position in range(known, known + count):
        made = step({**given, "token": token, "position": np.array([position])})
        logits = made.pop("logits")[0]
        given |= {name.removesuffix("_out"): cache for name, cache in made.items()}
        chances = np.exp(logits - logits.max())
        token = (chances / chances.sum() / rng.standard_exponential((1, len(logits)), np.float32)).argmax(-1)
        codes.append(max(0, int(token[0]) - facts["shift"]))
    return np.array([codes])


def main(folder, target, count="344"):
    codes = sample(folder, int(count))
    decoder = Graph(folder, f"decoder_{LEVEL}")
    audio = decoder({"codes": codes})["audio"][0]
    with wave.open(target, "wb") as file:
        file.setparams((1, 2, decoder.record["application"]["sample_rate"], 0, "NONE", ""))
        file.writeframes((np.clip(audio, -1, 1) * 32767).astype("<i2").tobytes())
    print(*codes[0])


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:4])
