"""Each mistake gets its one message: the dotted key, the value, the rule, the remedy."""

from __future__ import annotations

import pytest

from jukebox_core.errors import ConfigError
from jukebox_core.models.presets import option_names
from pipelines.settings.compose import COMPOSE, DATASET, DECODE, ENCODE, GENERATE, Root, compose, from_command_line

MISTAKES: list[tuple[list[str], str]] = [
    # keys
    (["sampling.sed=1"], "sampling.sed is not a setting; closest: 'seed'"),
    (["+sampling.sed=1"], "sampling.sed is not a setting; closest: 'seed'"),
    (["~sampling.sed"], "sampling.sed is not a setting; closest: 'seed'"),
    (["modle=5b"], "modle is not a setting; closest: 'model'"),
    (["seed=1"], "seed is not a setting; did you mean sampling.seed?"),
    (["output.x=1"], "output.x is not a setting; output consists of format, report"),
    (["songs=[{artst: organ}]"], "songs.0.artst is not a setting; closest: 'artist'"),
    (["sampling.seed.x=1"], "sampling.seed.x is not a setting; sampling.seed is a single value"),
    (["+sampling.seed=1"], "sampling.seed exists already; write sampling.seed=... without the +"),
    (["~model.name"], "model.name is missing; give it a value"),
    (
        ["model.network.priors.level_0.timing.bins=3"],
        "model.network.priors.level_0.timing.bins cannot be set by itself: the section or list above it is empty; "
        "give that as a whole",
    ),
    (
        ["weights.paths={level_2: a}"],
        "weights.paths has no entries yet; write a + before it, as in '+weights.paths={name: value}'",
    ),
    # groups
    (["output=ogg"], "output is 'ogg'; choose one of flac, mp3, wav"),
    (
        ["model=5bb"],
        f"model is '5bb'; choose one of {', '.join(option_names('model'))}; closest: '5b'",
    ),
    (
        ["hydra.searchpath=[file:///no/such]"],
        "hydra.searchpath names /no/such, which is not a folder; name folders, as in [file:///my/conf]",
    ),
    # types
    (["sampling.seed=abc"], "sampling.seed is 'abc'; it must be a whole number"),
    (["sampling.seed=1.5"], "sampling.seed is 1.5; it must be a whole number"),
    (["sampling.seed=true"], "sampling.seed is True; it must be a whole number"),
    (["sampling.seed=null"], "sampling.seed is null; it must be a whole number"),
    (["seconds=long"], "seconds is 'long'; it must be a number"),
    (["song.artist=7"], "song.artist is 7; it must be text"),
    (["output.report=1"], "output.report is 1; it must be true or false"),
    (["output.format=ogg"], "output.format is 'ogg'; choose one of 'wav', 'flac', 'mp3'"),
    (["prompt.files={a: b}"], "prompt.files is {a: b}; it must be a list, as in [a, b]"),
    (
        ["songs=[5]"],
        "songs.0 is 5; it must be a section with artist, genre, lyrics, lyrics_file, total_seconds, offset_seconds",
    ),
    # ranges, in the words of the record concerned
    (["sampling.seed=-1"], "sampling.seed is -1; it must be between 0 and 2**63 - 1"),
    (["sampling.level_0.temperature=0"], "sampling.level_0.temperature is 0.0; it must be above 0 (0.99 is usual)"),
    (
        ["sampling.level_1.top_k=5", "sampling.level_1.top_p=0.5"],
        "sampling.level_1.top_k=5 and top_p=0.5 are both set; choose one, set the other null",
    ),
    (
        ["hardware.device=cud"],
        "hardware.device is 'cud'; choose one of auto, cpu, cuda, mps or cuda:<index>; closest: 'cuda', 'cpu'",
    ),
    (
        ["storage.tokens='s3://key:word@bucket'"],
        "storage.tokens is an address with a user or password in it; leave them out, and give them to "
        "the store's own tools (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE)",
    ),
    (["storage.flush_seconds=0"], "storage.flush_seconds is 0.0; it must be above 0 and finite"),
    (["song.offset_seconds=-1"], "song.offset_seconds is -1.0; it cannot be negative or infinite"),
    (
        ["run.name=a/b"],
        "run.name is 'a/b'; it must be a plain folder name, without slashes and not starting with a dot",
    ),
    (["model=small_prior", "seconds=1e308"], "seconds is 1e+308; a song lasts at most a day, 86,400 s"),
    (["prompt.offset_seconds=1e308"], "prompt.offset_seconds is 1e+308; it is at most 1e+09"),
    (
        ["song.total_seconds=1e308"],
        "song.total_seconds is 1e+308, but mini knows songs from 2 s to just under 240 s; "
        "set it within that, or to null",
    ),
    (["seconds=nan"], "seconds is nan; it must be above 0 and finite"),
    (["model.network.priors.level_2.level=1"], "model.network.priors: priors.level_2.level is 1; it must be 2"),
    # settings at odds with each other
    (
        ["model=1b_lyrics", "seconds=4"],
        "seconds is 4.0, but the upsampler of level 1 needs a full context of 8192 tokens; "
        "set seconds=5.95 or more, or stop above it with sampling.stop_level=2",
    ),
    (
        ["model=1b_lyrics", "seconds=1", "sampling.stop_level=1"],
        "seconds is 1.0, but the upsampler of level 1 needs a full context of 8192 tokens; "
        "set seconds=5.95 or more, or stop above it with sampling.stop_level=2",
    ),
    (["seconds=0.002"], "seconds is 0.002, shorter than one top-level token (0.0058 s); ask for more"),
    (
        ["prompt.seconds=6"],
        "prompt.seconds is 6.0, which leaves nothing to sample of seconds=6.0; "
        "make the prompt shorter or the song longer",
    ),
    (
        ["songs=[{artist: organ}]", "sampling.n_samples=2"],
        "songs has 1 entries but sampling.n_samples is 2; give one for each sample, or none to use `song` for all",
    ),
    (
        ["model=5b", "seconds=61", "song.lyrics=la"],
        "song.lyrics is set, but model 5b knows no lyrics; remove them, or choose model=5b_lyrics",
    ),
    (
        ["model=5b", "seconds=61", "songs=[{lyrics_file: a.txt}]"],
        "songs.0.lyrics_file is set, but model 5b knows no lyrics; remove them, or choose model=5b_lyrics",
    ),
    (
        ["model=small_prior", "seconds=24", "song.artist=organ"],
        "song.artist is 'organ', but model small_prior knows no artists and genres; "
        "set it to unknown, or choose model=mini",
    ),
    (
        ["model=small_prior", "seconds=24", "songs=[{genre: waltz}]"],
        "songs.0.genre is 'waltz', but model small_prior knows no artists and genres; "
        "set it to unknown, or choose model=mini",
    ),
    (["song.lyrics=la", "song.lyrics_file=a.txt"], "song.lyrics and lyrics_file=a.txt are both set; give one of them"),
    (
        ["songs=[{lyrics: la, lyrics_file: a.txt}]"],
        "songs.0.lyrics and lyrics_file=a.txt are both set; give one of them",
    ),
    (
        ["song.total_seconds=5"],
        "song.total_seconds is 5.0, but the music ends at 5.99655 s (offset_seconds=0.0 + seconds=6.0); "
        "set it to at least that, or to null",
    ),
    (
        ["song.total_seconds=600"],
        "song.total_seconds is 600, but mini knows songs from 2 s to just under 240 s; set it within that, or to null",
    ),
    (
        ["model=5b", "sampling.stop_level=2", "song.total_seconds=59.9"],
        "song.total_seconds is 59.9, but 5b knows songs from 60 s to just under 600 s; set it within that, or to null",
    ),
    (
        ["seconds=700"],
        "song.offset_seconds + seconds is 700, but mini knows songs from 2 s to just under 240 s; make seconds smaller",
    ),
    # grammar
    (
        ["seconds=6, 7"],
        "seconds is '6, 7', which could be several things; for a list write seconds=[6, 7], "
        """for one text 'seconds="6, 7"', and for a run with each of them add --multirun""",
    ),
    (
        ["seconds=(("],
        "'seconds=((' cannot be understood (mismatched input '('); write name=value, "
        """and quote text with punctuation twice, as in 'song.lyrics="one (two)"'""",
    ),
    (
        ["storage.tokens=${nope}"],
        "storage.tokens: Interpolation key 'nope' not found; name a setting that exists, as in ${storage.root}, "
        r"or write \${ for the text ${",
    ),
    (["storage=s3"], "storage.tokens has no value; give storage.tokens=..."),
]


@pytest.mark.parametrize(
    ("overrides", "message"), MISTAKES, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_a_mistake_gets_its_message(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(GENERATE, overrides)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("root", "overrides", "message"),
    [
        (ENCODE, [], "audio has no value; give audio=..."),
        (ENCODE, ["audio=[]"], "audio is empty; name at least one file, as in audio=[song.wav]"),
        (ENCODE, ["audio=[a.wav]", "levels=[3]"], "levels is [3]; name each of 0, 1, 2 at most once, and at least one"),
        (ENCODE, ["audio=[a.wav]", "seconds=0"], "seconds is 0.0; it must be above 0 and finite"),
        (DECODE, ["codes=[a.npz]", "level=3"], "level is 3; choose one of 0, 1, 2"),
        (DECODE, ["codes=[a.npz]", "folder=''"], "folder is empty; give the folder that audio is written to"),
        (COMPOSE, ["songs=0"], "songs is 0; choose from 1 to 1,000,000"),
        (COMPOSE, ["seconds=1"], "seconds is 1.0; songs last from 4 s to an hour"),
        (COMPOSE, ["format=mp3"], "format is 'mp3'; choose one of 'wav', 'flac'"),
        (DATASET, [], "audio has no value; give audio=..."),
        (
            DATASET,
            ["audio=a", "checks.most_unreadable=2"],
            "checks.most_unreadable is 2.0; it is a share, from 0 to 1",
        ),
    ],
    ids=str,
)
def test_the_other_commands_check_theirs(root: Root[object], overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(root, overrides)
    assert str(caught.value) == message


def test_mistakes_of_all_sections_are_reported_together_one_per_line() -> None:
    with pytest.raises(ConfigError) as caught:
        compose(GENERATE, ["sampling.seed=x", "seconds=y", "+song.z=1"])
    assert sorted(str(caught.value).splitlines()) == [
        "sampling.seed is 'x'; it must be a whole number",
        "seconds is 'y'; it must be a number",
        "song.z is not a setting; song consists of artist, genre, lyrics, lyrics_file, total_seconds, offset_seconds",
    ]


def test_a_sweep_is_refused_before_its_first_job() -> None:
    with pytest.raises(ConfigError, match=r"sampling\.seed is -2"):
        from_command_line(GENERATE, ["--multirun", "sampling.seed=1,-2"])
