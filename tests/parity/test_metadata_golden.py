"""Labels, lyrics and window plans against the original's numbers (docs/upstream.md, Windows to Lyrics), exactly."""

import json

import numpy as np
import pytest

from jukebox_core.errors import LabelError
from jukebox_core.families.jukebox.conditioning.labels import label_song, window_row
from jukebox_core.families.jukebox.conditioning.lyrics import ALPHABET_V2, ALPHABET_V3, lyric_window
from jukebox_core.families.jukebox.conditioning.vocabulary import NameTable, Vocabulary, load_vocabularies
from jukebox_core.families.jukebox.config import LabelConfig, LyricsConfig, PriorConfig, TransformerConfig
from jukebox_core.tokens.plan import split_batch, split_chunks, window_starts

PIPELINES = ["pipeline_p1bl", "pipeline_p5b", "pipeline_p5bl"]
TOP_FOLDERS = {"pipeline_p1bl": "1b_lyrics", "pipeline_p5b": "5b", "pipeline_p5bl": "5b_lyrics"}
MANY_ROWS = 10**6  # of the tables of a prior that is never built


def read(golden, path):
    file = golden / path
    if not file.is_file():
        pytest.skip(f"{file} is absent")
    return json.loads(file.read_text())


def recorded_vocabularies(ids):
    """The names that the golden vectors themselves give an id; those with id 0 were not listed."""
    spell = {"v2": Vocabulary("v2", NameTable({}, 0), NameTable({}, 0)).normalise, "v3": str.lower}
    tables = {kind: ({}, {}) for kind in spell}
    for case in ids:
        kind = case["labeller"][:2]
        artists, genres = tables[kind]
        if "artist" in case:
            artists[spell[kind](case["artist"])] = case["id"]
        else:
            name = spell[kind](case["genre"])
            genres.update(zip(name.split("_") if kind == "v2" else [name], case["ids"], strict=True))
    return {
        kind: Vocabulary(
            kind, *(NameTable.from_pairs((name, number) for name, number in table.items() if number) for table in pair)
        )
        for kind, pair in tables.items()
    }


@pytest.fixture(scope="module")
def metadata(golden):
    return read(golden, "metadata/labels.json")


@pytest.fixture(scope="module", params=["files", "recorded"])
def vocabularies(request, metadata):
    if request.param == "recorded":
        return recorded_vocabularies(metadata["ids"])
    folder = request.getfixturevalue("shared") / "vocab"
    paths = {
        f"{noun}s_{kind}": folder / f"{kind}_{noun}_ids.txt" for noun in ("artist", "genre") for kind in ("v2", "v3")
    }
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    return load_vocabularies(paths)


def prior_config(*, v3, max_genre_words, tokens, context=1):
    letters = ALPHABET_V3 if v3 else ALPHABET_V2
    kind = "v3" if v3 else "v2"
    return PriorConfig(
        level=0,
        context=context,
        transformer=TransformerConfig(width=4, depth=1, heads=1, attention_order=0),
        labels=LabelConfig(vocabulary=kind, artists=MANY_ROWS, genres=MANY_ROWS, max_genre_words=max_genre_words),
        lyrics=LyricsConfig(tokens=tokens, characters=letters.size) if tokens else None,
    )


def labeller_config(labeller):
    return prior_config(v3=labeller["v3"], max_genre_words=labeller["max_genre_words"], tokens=labeller["n_tokens"])


def song_of(case, vocabularies, config):
    fields = {name: case[name] for name in ("artist", "genre", "lyrics", "total_length", "offset")}
    return label_song(vocabularies, **fields, config=config, strict=False)


def test_ids(metadata, vocabularies):
    for case in metadata["ids"]:
        vocabulary = vocabularies[case["labeller"][:2]]
        if "artist" in case:
            assert vocabulary.artist_id(case["artist"], strict=False) == case["id"], case
        else:
            words = len(case["ids"])
            assert list(vocabulary.genre_ids(case["genre"], max_words=words, strict=False)) == case["ids"], case


def test_strict_ids_differ_only_by_refusing(metadata, vocabularies):
    refused = 0
    for case in metadata["ids"]:
        if "artist" not in case:
            continue
        vocabulary = vocabularies[case["labeller"][:2]]
        try:
            assert vocabulary.artist_id(case["artist"]) == case["id"]
        except LabelError:
            assert case["id"] == 0
            refused += 1
    assert refused


def test_song_labels(metadata, vocabularies):
    for case in metadata["get_label"]:
        labeller, out = metadata["labellers"][case["labeller"]], case["out"]
        config = labeller_config(labeller)
        if "error" in out:
            with pytest.raises(LabelError, match="words"):
                song_of(case, vocabularies, config)
            continue
        labels = song_of(case, vocabularies, config)
        letters = ALPHABET_V3 if labeller["v3"] else ALPHABET_V2
        tokens = letters.tokens(case["lyrics"])
        assert letters.clean(case["lyrics"]) == out["clean_lyrics"]
        if isinstance(out["full_tokens"], dict):
            assert len(tokens) == out["full_tokens"]["len"]
        else:
            assert list(tokens) == out["full_tokens"]
        times = {"total_length": case["total_length"], "offset": case["offset"], "duration": labeller["sample_length"]}
        seen = lyric_window(tokens, labeller["n_tokens"], **times, single_precision=False)
        row = window_row(labels, config, sample_length=labeller["sample_length"], start=0).row
        head = len(row) - labeller["n_tokens"]
        assert [*row[:head], *seen.tokens] == out["y"], case
        assert [index for i, index in enumerate(seen.indices) if i in (0, len(seen.indices) - 1)] == out[
            "indices_first_last"
        ]
        assert seen.indices.count(-1) == out["n_pad"]
        assert letters.text(seen.tokens) == out["describe"]["lyrics"]


def test_lyric_windows(metadata):
    apart = 0
    for case in metadata["set_y_lyric_tokens"]:
        size = metadata["labellers"][case["labeller"]]["n_tokens"]
        times = {name: case[name] for name in ("total_length", "offset", "duration")}
        seen = lyric_window(range(1, case["n_full"] + 1), size, **times)
        assert (seen.indices[0], seen.indices[-1]) == (case["first_index"], case["last_index"]), case
        assert seen.indices.count(-1) == case["n_pad"]
        double = lyric_window(range(1, case["n_full"] + 1), size, **times, single_precision=False)
        assert double.indices[0] == case["python_float64_first_index"], case
        apart += double != seen
    assert apart, "no case distinguishes the two precisions"


def test_text(golden):
    for case in read(golden, "metadata/text_processor.json")["cases"]:
        if "v3" not in case:
            continue  # a remark, not a case
        letters = ALPHABET_V3 if case["v3"] else ALPHABET_V2
        if "vocab" in case:
            padding = case["vocab"].pop("<unk>")
            assert letters.size == case["n_vocab"]
            assert letters.text([padding]) == ""
            assert {c: letters.tokens(c)[0] for c in letters.characters} == case["vocab"]
            continue
        clean = letters.clean(case["text"])
        assert clean == case["clean"]
        tokens = letters.tokens(clean)
        assert list(tokens) == case["tokens"]
        assert letters.text(tokens) == case["textise"]
        some = case["characterise"]  # the first of them
        assert [letters.text([token]) for token in tokens[: len(some)]] == some


def test_window_starts(golden):
    for case in read(golden, "metadata/get_starts.json"):
        assert window_starts(case["total_length"], case["n_ctx"], case["hop_length"]) == case["starts"], case


def test_batches(golden):
    for case in read(golden, "metadata/split_batch.json"):
        assert split_batch(case["n_samples"], case["split_size"]) == case["batch_sizes"], case


def test_chunks(golden):
    for case in read(golden, "metadata/split_chunks.json"):
        assert split_chunks(case["length"], case["chunk_size"]) == case["chunks"], case


def level_of(golden, pipeline, level):
    """Returns the prior and the samples per token of a level, as the hyperparameters beside its weights give them."""
    top = TOP_FOLDERS[pipeline] if level == 2 else "5b"
    hps = read(golden, f"zoo/models/{top}/prior_level_{level}.hps.json")
    vqvae = read(golden, "zoo/models/5b/vqvae.hps.json")
    hop = 1
    for stride, down in zip(vqvae["strides_t"][: level + 1], vqvae["downs_t"][: level + 1], strict=True):
        hop *= stride**down
    config = prior_config(
        v3=hps["labels_v3"], max_genre_words=hps["max_bow_genre_size"], tokens=hps["n_tokens"], context=hps["n_ctx"]
    )
    return config, hop


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_rows_of_whole_songs(golden, pipeline, vocabularies):
    metas = read(golden, f"{pipeline}/pipeline.json")["metas"]
    with np.load(golden / pipeline / "io.npz") as arrays:
        rows = {int(name[-1]): arrays[name] for name in arrays.files if name.startswith("labels_y_level")}
    for level, expected in rows.items():
        config, hop = level_of(golden, pipeline, level)
        found = [
            window_row(song_of(meta, vocabularies, config), config, sample_length=config.context * hop, start=0).row
            for meta in metas
        ]
        assert found == [tuple(row) for row in expected.tolist()]


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_rows_of_every_window(golden, pipeline, vocabularies):
    story = read(golden, f"{pipeline}/pipeline.json")
    runs = [run["windows"] for run in story["runs"].values() if run.get("windows")]
    assert runs
    levels = {level: level_of(golden, pipeline, level) for level in range(3)}
    for windows in runs:
        songs = 0  # of this window that were seen so far: its parts follow one another
        for window in windows:
            config, hop = levels[window["level"]]
            assert len(window["y"]) == window["n"]
            for meta, expected in zip(story["metas"][songs : songs + window["n"]], window["y"], strict=True):
                start, rest = divmod(expected[1] - meta["offset"], hop)
                assert rest == 0
                share = story["hop_fraction"][window["level"]]
                total = story["sample_length"] // hop
                assert start in window_starts(total, config.context, int(share * config.context))
                labels = song_of(meta, vocabularies, config)
                row = window_row(labels, config, sample_length=config.context * hop, start=start).row
                assert list(row[: len(expected)]) == expected  # only the first columns of some levels were kept
            songs = (songs + window["n"]) % len(story["metas"])
