"""The commands, given their settings: checks before the run, then the flow."""

from __future__ import annotations

import logging
import sys
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING

from jukebox_core.base.atomic import sweep
from jukebox_core.base.paths import output_folder, user_path
from jukebox_core.base.processes import own_name
from jukebox_core.errors import JukeboxError, RunError
from jukebox_core.models.stored import to_stored
from pipelines.console import logged, prefect_errors_hidden, run_log, shown_log
from pipelines.exit_status import working

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jukebox_core.composer.config import AlbumConfig
    from jukebox_core.store.run_lock import RunLock
    from pipelines.execution.preflight import Prepared
    from pipelines.orchestration.flow_runs import How
    from pipelines.runs.folder import RunFolder
    from pipelines.settings.align import AlignSettings
    from pipelines.settings.codec import DecodeSettings, EncodeSettings
    from pipelines.settings.dataset import DatasetSettings
    from pipelines.settings.export import ExportSettings
    from pipelines.settings.features import FeaturesSettings
    from pipelines.settings.generate import Settings
    from pipelines.settings.train import TrainSettings
    from pipelines.settings.transcribe import EvaluateSettings, TranscribeSettings
    from pipelines.settings.vamp import InpaintSettings, VampSettings

log = logging.getLogger("jukebox")


def generate(settings: Settings, *, resume: bool = False) -> None:
    """Generates songs in a run folder; prints the paths of their audio, and commands to continue after a choice.

    Args:
        settings: the run's.
        resume: the run exists, and is resumed as it was planned.

    Raises:
        JukeboxError: the settings are invalid, or a stage failed; finished windows and files are kept.
    """
    from pipelines.runs import choice, next_commands

    run = make(choice.first_part(settings), resume=resume)
    _print_result(run)
    _print_next(choice.advice(settings, run) or next_commands.after_run(settings, run))


def vamp(settings: VampSettings) -> None:
    """Varies recordings in a run folder; prints the paths of the audio.

    Raises:
        JukeboxError: the settings or a recording are invalid, or a stage failed; finished windows and files are kept.
    """
    from pipelines.execution.variation import run_settings
    from pipelines.runs import next_commands

    song = run_settings(settings)
    run = make(song)
    _print_result(run)
    _print_next(next_commands.after_run(song, run))


def inpaint(settings: InpaintSettings) -> None:
    """Makes some seconds of recordings again; prints the paths of the audio. Errors as `vamp`."""
    vamp(settings.as_vamp)


def make(settings: Settings, *, how: How | None = None, resume: bool = False) -> RunFolder:
    """Generates songs and returns their run; idempotent: a finished run is returned at once.

    Args:
        settings: the run's.
        how: the stages are run (`pipelines.orchestration.flow_runs`); None: as a command runs them.
        resume: as of `generate`.

    Raises:
        JukeboxError: as `generate`.
    """
    from pipelines.execution import preflight
    from stages import stopping

    prepared = preflight.prepare(settings, resume=resume)
    settings = prepared.settings
    run = preflight.finished(prepared)
    if run is None:
        prepared = preflight.check_machine(prepared)
        lock = _run_lock(settings)
        with lock, stopping.holding(lock.check):
            run = preflight.finished(prepared) if settings.run.wait else None
            if run is None:
                return _make(prepared, how)
    print(f"run {run.name} is finished; nothing is left to do", file=sys.stderr)  # noqa: T201 - for the user
    return run


def _run_lock(settings: Settings) -> RunLock:
    """Returns the lock of the run that these settings make."""
    from jukebox_core.store.run_lock import RunLock
    from pipelines.runs.folder import lock_of
    from stages import stopping

    return RunLock(
        settings.storage.tokens,
        lock_of(settings),
        wait=settings.run.wait,
        on_wait=lambda line: print(line, file=sys.stderr),  # noqa: T201 - for the user
        on_lost=stopping.request_stop,
    )


def _make(prepared: Prepared, how: How | None) -> RunFolder:
    from pipelines.runs.contents import for_any_folder
    from pipelines.runs.folder import open_run
    from pipelines.runs.output_files import make_room
    from pipelines.settings.compose import dump

    settings = prepared.settings
    stored = for_any_folder(settings)
    run = open_run(stored, dump(stored), prepared.contents)
    for folder in (run.path, settings.storage.scratch):
        if folder is not None:
            sweep(user_path(folder))  # what killed processes left
    make_room(run.path, "run.log")
    with run_log(run.path / "run.log"), working():
        log.info("run %s in %s", run.name, run.path)
        if not settings.model.trained:
            log.warning("model %s is untrained: its output is noise", settings.model.name)
        try:
            run.update(status="running", process=own_name())
            from pipelines.flows.generate import run_generate_flow

            with prefect_errors_hidden() if how is None else nullcontext():
                run_generate_flow(prepared, run, to_stored(settings), live=how is None and sys.stderr.isatty(), how=how)
        except BaseException as error:
            _record_stop(run, error)
            raise
        log.info("finished; open %s", run.path / "report.html" if settings.output.report else run.path)
    return run


def _record_stop(run: RunFolder, error: BaseException) -> None:
    """Records in the manifest why a run stopped; on a full disk, which may be why, only the log says so."""
    try:
        if run.manifest().get("status") != "finished":  # else a signal came after all was made
            run.update(status="stopped", stopped_by=type(error).__name__)
    except (JukeboxError, OSError) as second:
        log.warning("the manifest still says that the run is running: %s", second)


def _print_result(run: RunFolder) -> None:
    for record in run.manifest()["audio"]:
        print(run.path / record["path"])  # noqa: T201 - the command's answer


def _print_next(lines: Sequence[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr)  # noqa: T201 - for the user


def chain(song: Settings, vamp: Sequence[str] = (), transcribe: Sequence[str] = ()) -> list[str]:
    """Makes songs, varies them and transcribes the variations, as one flow; returns the paths of the files of notes.

    Idempotent: each part finds what it has stored, and goes on from there.

    Args:
        song: the settings of the songs.
        vamp: overrides of `jukebox vamp`, without ``audio``.
        transcribe: overrides of `jukebox transcribe`, without ``audio``.

    Raises:
        JukeboxError: as the parts; what they finished is kept.
    """
    from pipelines.execution import transcription
    from pipelines.execution.variation import run_settings
    from pipelines.flows.transcribe import transcribe_files
    from pipelines.orchestration.flow_runs import run_flow
    from pipelines.orchestration.signals import stopping_on_signals
    from pipelines.orchestration.stage_calls import PLAIN, Stages
    from pipelines.settings.compose import TRANSCRIBE, VAMP, compose
    from pipelines.settings.overrides import quoted

    def work(stages: Stages) -> list[str]:
        made = make(song, how="in_flow")
        varied = make(run_settings(compose(VAMP, [f"audio=[{quoted(str(made.path))}]", *vamp])), how="in_flow")
        settings = compose(TRANSCRIBE, [f"audio=[{quoted(str(varied.path))}]", *transcribe])
        with stopping_on_signals():
            return transcribe_files(settings, transcription.check(settings), stages)

    shown = {"song": to_stored(song), "vamp": list(vamp), "transcribe": list(transcribe)}
    with prefect_errors_hidden():
        return run_flow("chain", shown, PLAIN, work, "tasks", song.storage.root)


def encode(settings: EncodeSettings) -> None:
    """Turns audio files into codes files; prints their paths.

    Raises:
        JukeboxError: the settings or a file are invalid.
    """
    from pipelines.execution import preflight
    from pipelines.runs import next_commands

    preflight.check_encode(settings)
    with logged(settings.folder, "encode.log"), working():
        from pipelines.flows.codec import encode_flow

        made = encode_flow(settings)
        print(*made, sep="\n")  # noqa: T201 - the command's answer
    level = max(settings.levels)
    coarse = ["decode", f"codes={made[0]}", f"level={level}", "folder=outputs/drafts"] if made else []
    _print_next(next_commands.after_files("decode", "codes", made, coarse))


def decode(settings: DecodeSettings) -> None:
    """Turns codes files into audio files; prints their paths.

    Raises:
        JukeboxError: the settings or a file are invalid.
    """
    from pipelines.execution import preflight
    from pipelines.runs import next_commands

    preflight.check_decode(settings)
    with logged(settings.folder, "decode.log"), working():
        from pipelines.flows.codec import decode_flow

        made = decode_flow(settings)
        print(*made, sep="\n")  # noqa: T201 - the command's answer
    _print_next(next_commands.after_decoding(made))


def transcribe(settings: TranscribeSettings) -> None:
    """Turns recordings into notes; prints the paths of their MIDI files, or of their JSON files without these.

    Raises:
        JukeboxError: the settings or a file are invalid.
    """
    from pipelines.execution import transcription
    from pipelines.runs import next_commands

    recordings = transcription.check(settings)
    with logged(settings.folder, "transcribe.log"), working():
        from pipelines.flows.transcribe import transcribe_flow

        made = transcribe_flow(settings, recordings)
        print(*made, sep="\n")  # noqa: T201 - the command's answer
    page = ["transcribe", f"audio={settings.audio[0]}", "report=true", "folder=outputs/pages"]
    _print_next(next_commands.after_files("evaluate", "estimate", made, page))


def evaluate(settings: EvaluateSettings) -> None:
    """Prints how well notes agree with reference notes by the rules of mir_eval, or without these their statistics.

    Raises:
        NotesError: a file is missing or holds no notes.
        ConfigError: a folder holds no notes, a run has no transcripts, or pieces have no reference.
    """
    from pipelines.execution.evaluation import report

    print(report(settings))  # noqa: T201 - the command's answer


def features(settings: FeaturesSettings) -> None:
    """Takes features of recordings; prints the folder they are in. Finished recordings are kept.

    Raises:
        JukeboxError: the settings or all recordings are invalid, or another process writes to the folder.
    """
    from jukebox_core.base.locks import FileLock
    from jukebox_core.features.folder import FeatureFolder
    from pipelines.execution import features as execution
    from pipelines.runs import next_commands
    from pipelines.settings.compose import dump

    prepared = execution.prepare(settings)
    if execution.unfinished(prepared) == [] and execution.is_finished(prepared):
        print(f"{settings.path} is finished; nothing is left to do", file=sys.stderr)  # noqa: T201 - for the user
        print(settings.path)  # noqa: T201 - the command's answer
        return
    with logged(str(settings.path), "features.log"), working():
        lock = FileLock(settings.path / ".lock")
        if not lock.acquire():
            raise RunError(f"another process writes to {settings.path}; wait until it ends, or name another folder")
        try:
            FeatureFolder(settings.path).write_text("config.yaml", dump(settings))
            from pipelines.flows.features import run_features_flow

            run_features_flow(prepared, to_stored(settings))
        finally:
            lock.release()
        print(settings.path)  # noqa: T201 - the command's answer
    _print_next(next_commands.after_features(settings.audio[0]))


def align(settings: AlignSettings) -> None:
    """Brings the words of a run in time with its music; prints the paths of the files.

    Raises:
        JukeboxError: the run does not exist, is not finished at its top level, or has no lyrics.
    """
    from pipelines.execution import align as execution
    from pipelines.runs import next_commands
    from stages import stopping

    prepared = execution.prepare(settings)
    with ExitStack() as stack:
        if prepared.in_run:  # another process may be making the run's files
            lock = stack.enter_context(_run_lock(prepared.made_by))
            stack.enter_context(stopping.holding(lock.check))
        stack.enter_context(shown_log())
        stack.enter_context(working())
        print(*execution.align(prepared), sep="\n")  # noqa: T201 - the command's answer
    _print_next(next_commands.after_run(prepared.made_by, prepared.run))


def export(settings: ExportSettings) -> None:
    """Exports the graphs of a model; prints their paths. Finished graphs are kept.

    Raises:
        JukeboxError: the settings are invalid, or a graph does not compute what the model does.
    """
    from pipelines.execution import export as execution

    execution.check(settings)
    with logged(settings.folder, "export.log"), working():
        from pipelines.flows.export import export_flow

        print(*export_flow(settings), sep="\n")  # noqa: T201 - the command's answer


def compose(settings: AlbumConfig) -> None:
    """Composes songs to learn from; prints the folder.

    Raises:
        JukeboxError: the folder holds other things, or cannot be written.
    """
    from pipelines.runs import next_commands
    from stages.training.album import write_album

    with shown_log():
        print(write_album(settings))  # noqa: T201 - the command's answer
    _print_next(next_commands.after_composing(settings.folder))


def dataset(settings: DatasetSettings) -> None:
    """Checks recordings to learn from and turns them into codes; prints the folder of codes, or the report's path.

    Raises:
        JukeboxError: the settings, the folder or the labels are invalid, or too many recordings are.
    """
    from pipelines.execution import preflight
    from pipelines.runs import next_commands

    preflight.check_dataset(settings)
    with logged(settings.folder, "dataset.log"):
        from pipelines.flows.dataset import dataset_flow

        print(dataset_flow(settings))  # noqa: T201 - the command's answer
    _print_next(next_commands.after_dataset(settings.audio, settings.folder, encoded=settings.encode))


def train(settings: TrainSettings) -> None:
    """Trains a model; prints its folder.

    Under torchrun only the first process runs a Prefect flow; the others call the same stages as plain functions.

    Raises:
        JukeboxError: the settings or the data are invalid, or training cannot continue.
    """
    import os

    from pipelines.runs import next_commands

    sources = [source.removeprefix("file://") for source in settings.model.files.weight_sources]
    read = [folder for folder in (settings.audio, settings.data.audio, settings.data.codes) if folder is not None]
    read += [source for source in sources if source.startswith("/")]  # the model that is started from
    output_folder(settings.folder, read)
    if settings.checkpoints is not None and "://" not in settings.checkpoints:
        output_folder(settings.checkpoints, read)
    if int(os.environ.get("RANK", "0")) > 0:
        from pipelines.flows.train import train as train_plain
        from pipelines.orchestration.training_calls import PLAIN

        train_plain(settings, PLAIN)
        return
    with logged(settings.folder, "train.log"):
        from pipelines.flows.train import train_flow

        folder = train_flow(settings)
        print(folder)  # noqa: T201 - the command's answer
    _print_next(next_commands.after_training(settings.model.opened, str(folder)))
