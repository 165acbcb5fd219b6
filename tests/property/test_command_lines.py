"""Any command line, up to where the work begins: a documented exit status, errors of one line each, and no traceback.

Names and values are long, odd, not UTF-8, and hold line breaks, escape codes, Hydra's grammar and references to the
environment. The work itself is replaced: sampling, training, downloads, Prefect.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from jukebox_core.base.structuring import field_types, record_in
from pipelines import commands, exit_status
from pipelines.cli import main as cli
from pipelines.cli import models as models_commands
from pipelines.cli import serve as serve_commands
from pipelines.execution import align
from pipelines.settings.compose import GENERATE, ROOTS, compose, dump
from stages.training import album
from tests.helpers.patience import patience

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "hunter2-of-the-environment"
LONG = "x" * 300
SECONDS = 10  # of one command, on an idle machine
STATUSES = {0, exit_status.FAILED, exit_status.REFUSED}

ODD = [
    *(
        "",
        " ",
        ".",
        "..",
        "-",
        "--",
        "~",
        "~nobodyx",
        "~/x",
        "\0",
        "a\nb",
        "\x1b[31mred",
        "\r",
        "\t",
        "\x7f",
        "\ufdd0???",
    ),
    *("caf\udce9", "\ud800", "\u202egnp", "\u2028", "\ufeff", "さくら", "Beyoncé", "\U0001f3b9", "x" * 300, "é" * 200),
    *("???", "${", "${x", "${storage.root}", "${nope}", "${oc.env:SECRET}", "\\${a}", "${a:b}", "${${x}:SECRET}"),
    *("${now:%Y}", "'", '"', "\\", "[", "]", "{", "}", "(", ")", ",", "a,b", "a, b", "[a", "a: b", "=", "@", "#", "%"),
    *("null", "true", "0", "-1", "1e309", "nan", "inf", "-inf", "9" * 30, "9" * 5000, "0x10", "1_0", "1e308", "1:30"),
    *(
        "choice(1,2)",
        "range(1,3)",
        "glob(*)",
        "str(x)",
        "shuffle(1,2)",
        "int(x)",
        "<x>",
        "a;b",
        "&a",
        "*a",
        "{a: " * 50,
    ),
    *("/dev/null", "/dev/zero", "/dev/null/x", "pipe", "file/x", "file", "folder", "loop", "bomb.yaml", "none.yaml"),
    *("s3://", "s3://a b/c", "file:///dev/null/x", "http://[", "memory://x", "a://b", "mini", "run", "outputs", "all"),
    *("prepared", "[" * 300, "x/" * 3000),
]
texts = st.one_of(
    st.sampled_from(ODD),
    st.text(max_size=12).map(lambda text: text.lstrip("/")),  # nothing is made in the root folder
    st.lists(st.sampled_from(ODD), min_size=2, max_size=3).map("".join),
)


def settings_of(kind: Any, data: dict[str, Any], prefix: str = "", depth: int = 3) -> Iterator[str]:
    """Yields the dotted names of all settings in a record of type `kind`."""
    for name, inner in field_types(kind, data).items():
        yield prefix + name
        record = record_in(inner)
        if record is not None and depth:
            yield from settings_of(record, data, f"{prefix}{name}.", depth - 1)


KINDS = {root.name: root.kind for root in ROOTS}
FAMILIES = {"transcribe": "mt3", "vamp": "vampnet", "inpaint": "vampnet"}
NAMES = {
    name: sorted(settings_of(kind, {"family": family, "model": {"family": family}}))
    for name, kind in KINDS.items()
    for family in [FAMILIES.get(name, "jukebox")]
}
REQUIRED = {
    "encode": ["audio=[file]"],
    "decode": ["codes=[file]"],
    "dataset": ["audio=folder"],
    "transcribe": ["audio=[builtin:tune]"],
    "features": ["audio=[builtin:tune]"],
    "vamp": ["audio=[builtin:tune]"],
    "inpaint": ["audio=[builtin:tune]", "start=1.0", "stop=2.0"],
    "evaluate": ["reference=file", "estimate=folder"],
}
FLAGS = [
    "--help",
    "-h",
    "--cfg",
    "job",
    "--multirun",
    "-m",
    "--info",
    "--resolve",
    "-p",
    "model",
    "--nope",
    "-sc",
    "--",
]
APPS = {
    "runs": ["list", "show", "tree", "resume", "rm", "gc", "--yes", "--root", "--dry-run", "--older-than", "--store"],
    "models": ["list", "fetch", "verify", "path", "rm", "export", "import", "memory"],
    "serve": ["--name", "--cron", "--timezone", "--host", "--port", "--role", "--limit", "server", "0 3 * * *"],
}


@st.composite
def values(draw: st.DrawFn) -> str:
    text = draw(texts)
    shape = draw(
        st.sampled_from(["{}", "{}", "'{}'", '"{}"', "[{}]", "[a, {}]", "['{}']", "{{a: {}}}", "x/{}", "~/{}"])
    )
    return shape.format(text)


@st.composite
def overrides(draw: st.DrawFn, name: str) -> str:
    key = draw(st.sampled_from(NAMES[name])) if draw(st.integers(0, 9)) else draw(texts)
    prefix, equals = draw(st.sampled_from([*[""] * 9, "+", "++", "~"])), draw(st.sampled_from([*["="] * 9, ""]))
    return prefix + key + equals + draw(values())


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    name = draw(st.sampled_from(sorted(cli.COMMANDS)))
    if name in APPS:
        words = st.sampled_from(APPS[name]) | texts | overrides("generate") | values().map("weights.folder={}".format)
        return [name, *draw(st.lists(words, max_size=4))]
    root = name if name in KINDS else "generate"
    words = overrides(root) if draw(st.integers(0, 5)) else overrides(root) | texts | st.sampled_from(FLAGS)
    first = [draw(st.just("run") | texts)] if name not in KINDS or name == "align" else REQUIRED.get(name, [])
    return [name, *first, *draw(st.lists(words, max_size=3))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working directory: a run, and files and folders that are no recordings, runs or models."""
    home, before = tmp_path_factory.mktemp("lines"), Path.cwd()
    os.chdir(home)
    run = home / "outputs" / "run"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(dump(compose(GENERATE, ["song.lyrics='pay \\${price} or ???'"])), encoding="utf-8")
    (home / "file").write_bytes(b"words\xff")
    (home / "folder").mkdir()
    os.mkfifo(home / "pipe")
    (home / "loop").symlink_to("loop")
    (home / "bomb.yaml").write_text("a: &a [1, 2]\nb: &b [*b, *a]\n")
    try:
        yield home
    finally:
        os.chdir(before)


@pytest.fixture(scope="module", autouse=True)
def no_work(folder: Path) -> Iterator[None]:
    """Replaces what takes long, and what reaches other machines."""
    made = SimpleNamespace(name="run", path=folder, manifest=lambda: {"audio": [], "takes": []})
    flows = {
        f"pipelines.flows.{name}": ModuleType(name) for name in ("codec", "dataset", "train", "transcribe", "features")
    }
    for module in flows.values():
        for name in ("encode_flow", "decode_flow"):
            setattr(module, name, lambda _: [])
        for name in ("dataset_flow", "train_flow"):
            setattr(module, name, lambda _: "")
        for name in ("transcribe_flow", "run_features_flow"):
            setattr(module, name, lambda *_: [])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "_make", lambda *_, **__: made)
        patch.setattr(align, "align", lambda _: [])
        patch.setattr(serve_commands, "serve", lambda _: None)
        patch.setattr(models_commands.catalogue, "fetch", lambda *_: {})
        patch.setattr(album, "write_album", lambda _: folder)
        for name, module in flows.items():
            patch.setitem(sys.modules, name, module)
        environment = {"SECRET": SECRET, "AWS_SECRET_ACCESS_KEY": SECRET, "HF_TOKEN": SECRET, "HOME": str(folder)}
        nowhere = {"JUKEBOX_OFFLINE": "1", "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "nobody"}
        for name, value in (environment | nowhere).items():
            patch.setenv(name, value)
        yield


def run(arguments: list[str]) -> tuple[int, str, str]:
    """Returns the exit status, stdout and stderr of a command line; TimeoutError if it takes too long."""

    def late(*_: object) -> None:
        raise AssertionError(f"{arguments} takes too long")

    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2)]
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(patience(SECONDS))
    try:
        with redirect_stdout(streams[0]), redirect_stderr(streams[1]):
            try:
                status = cli.main(arguments)
            except SystemExit as end:  # help, or a flag that Hydra refuses
                status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    out, err = (stream.buffer.getvalue().decode() for stream in streams)  # type: ignore[attr-defined]
    return status, out, err


@pytest.mark.slow
@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(command_lines())
@example(["generate", "song.lyrics=${oc.env:SECRET}"])
@example(["generate", f"run.name={LONG}"])
@example(["generate", "song.total_seconds=1e308"])
@example(["generate", "seconds=1e308"])
@example(["generate", f"sampling.n_samples={'9' * 30}"])
@example(["models", "path", "mini", f"weights.folder={'9' * 5000}"])
@example(["generate", f"storage.root={LONG}"])
@example(["generate", "storage.root=~nobodyx"])
@example(["generate", f"song.lyrics_file={LONG}"])
@example(["generate", "song.lyrics_file=/dev/zero"])
@example(["generate", "song.lyrics_file=pipe"])
@example(["generate", f"prompt.files=[{LONG}]"])
@example(["generate", "model=./pipe"])
@example(["generate", f"weights.folder={LONG}"])
@example(["encode", f"audio=[{LONG}]"])
@example(["decode", f"codes=[{LONG}]"])
@example(["dataset", f"audio={LONG}"])
@example(["dataset", "audio=folder", f"metadata={LONG}"])
@example(["train", "data.audio=folder", f"folder={LONG}"])
@example(["compose", f"folder={LONG}"])
@example(["align", "run", f"folder={LONG}"])
@example(["features", "audio=[builtin:tune]", f"folder={LONG}"])
@example(["transcribe", "audio=[file]", f"folder={LONG}"])
@example(["evaluate", f"reference={LONG}", "estimate=pipe"])
@example(["train", "data.audio=folder", f"checkpoints={LONG}"])
@example(["continue", LONG])
@example(["upsample", "~nobodyx"])
@example(["runs", "show", LONG])
@example(["runs", "list", "--root", "~nobodyx"])
@example(["runs", "gc", "--root", LONG])
@example(["models", "export", LONG, "mini"])
@example(["models", "import", "~nobodyx"])
@example(["models", "path", f"./{LONG}.yaml"])
@example(["serve", "--port", "99999999"])
@example(["generate", "model=${oc.env:SECRET}"])
@example(["generate", "+song.x=${oc.env:SECRET}", "--cfg", "job", "--resolve"])
@example(["continue", "run", "storage.root=été"])
@example(["continue", "run", "storage.root=${oc.env:SECRET}"])
def test_any_command_line_ends_with_a_documented_status(folder: Path, arguments: list[str]) -> None:
    status, out, err = run(arguments)
    assert status in STATUSES, err
    assert status == 0 or err.strip(), "an error says something"
    assert not set(err) & {"\x1b", "\0", "\r"}
    assert "Traceback" not in err + out
    assert SECRET not in err + out
