"""What people ask for, as the API takes it: records with ranges. Nothing here names a file or a place."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pipelines.web.overrides import LONGEST_TEXT

Text = Annotated[str, Field(max_length=300)]
Lyrics = Annotated[str, Field(max_length=LONGEST_TEXT)]
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
Start = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=16)]
Sample = Annotated[int, Field(ge=0, le=10_000)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Temperature = Annotated[float, Field(ge=0, le=3, allow_inf_nan=False)]
Level = Annotated[int, Field(ge=0, le=8)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Settings = Annotated[dict[Annotated[str, Field(max_length=100)], Any], Field(max_length=50)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=False)


class Words(_Request):
    """What a song is about, and how freely it is drawn."""

    artist: Text | None = None
    genre: Text | None = None
    lyrics: Lyrics | None = None
    temperature: Temperature | None = Field(None, description="of the top level")
    seed: Seed | None = None
    settings: Settings = Field({}, description="further settings by dotted name, as in sampling.level_2.top_p")


class Prompt(_Request):
    """A recording that a song begins with."""

    id: Name = Field(description="of /api/prompts, or `tune` for the built-in tune")
    seconds: Seconds | None = None
    offset_seconds: Start = 0.0


class NewSong(Words):
    """A song from nothing, or from a prompt."""

    model: Name = "mini"
    seconds: Seconds = 6.0
    total_seconds: Seconds | None = Field(None, description="length of the whole song that the words are of")
    number: Count = 1
    sketch: bool = Field(True, description="sample the top level only; `upsample` finishes the best")
    prompt: Prompt | None = None
    align: bool = False


class Continue(Words):
    """A longer or another song that begins as a take does."""

    sample: Sample | None = Field(None, description="of the run; null: each of its samples")
    seconds: Seconds = Field(description="length of the new song, kept music included")
    keep_seconds: Seconds | None = Field(None, description="of the take; null keeps all of it")
    number: Count | None = Field(None, description="songs that begin so; only with `sample`")
    sketch: bool | None = Field(None, description="stop at the top level; null: as the run does")


class Piece(_Request):
    """A range of a take."""

    run: Name
    sample: Sample = 0
    from_seconds: Start = 0.0
    to_seconds: Seconds | None = None


class Splice(Continue):
    """As `Continue`, with ranges of other takes after the kept music."""

    pieces: Annotated[list[Piece], Field(min_length=1, max_length=16)]


class Choose(Words):
    """One take is chosen, and several songs go on from it."""

    sample: Sample
    number: Count = 3
    seconds: Seconds


class Upsample(_Request):
    """The lower levels of takes."""

    samples: Annotated[list[Sample], Field(max_length=16)] = Field([], description="of the run; empty: all of them")
    stop_level: Level = Field(0, description="the last level that is sampled")
    seed: Seed | None = None
    align: bool = False


class Vary(_Request):
    """Variations of a take, by a model that varies recordings."""

    model: Name = "mini_vamp"
    sample: Sample = 0
    number: Count = 1
    seed: Seed | None = None
    seconds: Seconds | None = None
    offset_seconds: Start = 0.0
    settings: Settings = {}


class Transcribe(_Request):
    """The notes of a take."""

    model: Name = "mini_mt3"
    sample: Sample = 0


class Fetch(_Request):
    """The files of a model."""

    accept_licence: bool = Field(False, description="whether its licence, as /api/models shows it, is accepted")


class MarkChange(_Request):
    """What is noted about a take; what is left out stays."""

    title: Annotated[str, Field(max_length=100)] | None = None
    note: Annotated[str, Field(max_length=2000)] | None = None
    star: bool | None = None
    hidden: bool | None = None


class Where(_Request):
    """A place in the queue."""

    place: Literal["first"] = "first"
