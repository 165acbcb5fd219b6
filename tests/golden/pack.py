"""Makes this folder from the whole set of golden vectors: python tests/golden/pack.py <whole set> [PATTERNS]."""

import io
import json
import lzma
import re
import sys
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent
CHOSEN = (
    "environment.json",
    "attention/*",
    "metadata/*",
    "vqvae_tiny/*",
    "prior_p*/*",
    "prior_up*/teacher_forced.*",  # their sampling is in the pipeline
    "pipeline_p1bl/*",
    "zoo/models/*/*",
    "features/*.json",
    "features/*.npz",
    "features/wav/*",
    "alignment_long/*",
)
# Arrays that are kept of large files; all of the others.
KEPT = {
    "features/acts_p5b": r"z|y|y_cond|final|(short\d+\.)?layer2(\.\w+)?",
    "features/acts_p5bl": r"z|y|y_cond|x_cond|final|(short\d+\.)?layer9",
    "features/acts_p1bl": r"z|y|y_cond|x_cond|final|(short\d+\.)?layer16",
    "features/acts_up1": r"z|y|y_cond|z_cond|final|(short\d+\.)?layer3(\.\w+)?",
    "features/jukemir": r".*\.(mean|codes_all|audio_first64|codes_if_cut_to_window_first)|y_cond",
    "features/jukemirlib": r".*(codes|audio_first64|rate(10\.5|30)|meanpool|mean_over_time)",
    "features/sheetsage": r"(c_short|e_rounds_down|codes3)\..*|d_\w+\.codes",
    "alignment_long/p5bl": r"(eighth|half)\.(z|labels_y|align1|item1\..*)|eighth\.(window0\..*|align0|item0\.\w*[^n])",
    "alignment_long/p1bl": r"(eighth|half)\.(z|labels_y|align1|item1\..*)|eighth\.window0\..*",
}
ARTIST_COLUMN = 3  # of a row of labels
ARTIST_TABLE = "y_emb.artist_emb.emb.weight"
# Tuned to numbers of four bytes, which this halves where deflate takes off a twentieth.
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "lp": 2, "pb": 2}]


def artists_in_use(whole: Path) -> list[int]:
    """The artists that some recorded number depends on."""
    used = {case["id"] for case in json.loads((whole / "metadata/labels.json").read_text())["ids"] if "artist" in case}
    for file in whole.glob("p*/*.npz"):
        with np.load(file) as arrays:
            for name in arrays.files:
                if name in ("y", "raw.y", "labels_y") or name.startswith("labels_y_level"):
                    used.update(arrays[name][:, ARTIST_COLUMN].tolist())
    return sorted(used)


def slim_checkpoint(file: Path, artists: list[int]) -> bytes:
    """The checkpoint with zeros for every artist that is never asked for: half its size, and no result changes."""
    content = torch.load(file, map_location="cpu", weights_only=True)
    for name, weight in content["model"].items():
        if name.removeprefix("module.") == ARTIST_TABLE:
            kept = [artist for artist in artists if artist < len(weight)]
            rows = weight[kept].clone()
            weight.zero_()
            weight[kept] = rows
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def content_of(file: Path, artists: list[int]) -> bytes:
    """The bytes to pack for `file`."""
    if file.name.endswith(".pth.tar"):
        return slim_checkpoint(file, artists)
    if file.suffix == ".npz":
        buffer = io.BytesIO()
        kept = re.compile(KEPT.get(f"{file.parent.name}/{file.stem}", ".*"))
        with np.load(file) as arrays:
            chosen = {name: arrays[name] for name in arrays.files if kept.fullmatch(name)}
            np.savez(buffer, **chosen)  # not compressed, so that the one compression around it can do its work
        return buffer.getvalue()
    return file.read_bytes()


def main(whole: Path, chosen: list[str]) -> None:
    artists = artists_in_use(whole)
    total = 0
    for pattern in chosen or CHOSEN:
        for file in sorted(whole.glob(pattern)):
            packed = HERE / f"{file.relative_to(whole)}.xz"
            packed.parent.mkdir(parents=True, exist_ok=True)
            packed.write_bytes(lzma.compress(content_of(file, artists), filters=FILTERS))
            total += packed.stat().st_size
    print(f"{total:,} bytes; {len(artists)} artists kept")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
