"""The commands, given their settings: checks before the run, then the flow."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from jukebox_core.base.processes import own_name
from jukebox_core.base.structuring import to_plain
from jukebox_core.errors import ConfigError, RunError
from pipelines.exit_status import working
from pipelines.orchestration import prefect_home

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jukebox_core.composer.config import AlbumConfig
    from jukebox_core.store.run_lock import RunLock
    from pipelines.execution.preflight import Prepared
    from pipelines.runs.folder import RunFolder
    from pipelines.settings.align import AlignSettings
    from pipelines.settings.codec import DecodeSettings, EncodeSettings
    from pipelines.settings.dataset import DatasetSettings
    from pipelines.settings.features import FeaturesSettings
    from pipelines.settings.generate import Settings
    from pipelines.settings.train import TrainSettings


def generate(settings: Settings) -> None:
    """Generates songs in a run folder; prints the paths of their audio, and commands to continue after a choice.

    Raises:
        JukeboxError: the settings are invalid, or a stage failed; finished windows and files are kept.
    """
    from pipelines.runs import choice

    run = make(choice.first_part(settings))
    _print_result(run)
    for line in choice.advice(settings, run):
        print(line, file=sys.stderr)  # noqa: T201 - for the user


def make(settings: Settings, *, in_flow: bool = False) -> RunFolder:
    """Generates songs and returns their run; idempotent: a finished run is returned at once.

    Args:
        settings: the run's.
        in_flow: called inside a flow run of Prefect; otherwise a new flow run is started.

    Raises:
        JukeboxError: as `generate`.
    """
    from pipelines.execution import preflight
    from stages import stopping

    prepared = preflight.prepare(settings)
    run = preflight.finished(prepared)
    if run is None:
        prepared = preflight.check_machine(prepared)
        lock = _run_lock(settings)
        with lock, stopping.holding(lock.check):
            run = preflight.finished(prepared) if settings.run.wait else None
            if run is None:
                return _make(prepared, in_flow=in_flow)
    print(f"run {run.name} is finished; nothing is left to do", file=sys.stderr)  # noqa: T201 - for the user
    return run


def _run_lock(settings: Settings) -> RunLock:
    """Returns the lock of the run that these settings make."""
    from jukebox_core.store.run_lock import RunLock
    from pipelines.runs.folder import lock_name
    from stages import stopping

    return RunLock(
        settings.storage.tokens,
        lock_name(settings),
        wait=settings.run.wait,
        on_wait=lambda line: print(line, file=sys.stderr),  # noqa: T201 - for the user
        on_lost=stopping.request_stop,
    )


def _make(prepared: Prepared, *, in_flow: bool) -> RunFolder:
    from pipelines.console import run_log
    from pipelines.runs.folder import open_run
    from pipelines.settings.compose import dump

    settings = prepared.settings
    run = open_run(settings, dump(settings))
    with run_log(run.path / "run.log") as log, working():
        log.info("run %s in %s", run.name, run.path)
        if not settings.model.trained:
            log.warning("model %s is untrained: its output is noise", settings.model.name)
        run.update(status="running", process=own_name())
        prefect_home.use(settings.storage.root)
        from pipelines.flows.generate import generate_songs, run_generate_flow
        from pipelines.orchestration.prefect_tasks import prefect_stages

        try:
            if in_flow:
                generate_songs(prepared, run, prefect_stages(), live=False)
            else:
                with _flow_run():
                    run_generate_flow(prepared, run, to_plain(settings), live=sys.stderr.isatty())
        except BaseException as error:
            run.update(status="stopped", stopped_by=type(error).__name__)
            raise
        log.info("finished; open %s", run.path / "report.html" if settings.output.report else run.path)
    return run


@contextmanager
def _flow_run() -> Iterator[None]:
    """Tags flow runs of the block as this process's, after reconciling those of killed processes."""
    from prefect import tags

    from pipelines.console import prefect_errors_hidden
    from pipelines.orchestration import reconcile

    reconcile.stop_leaked_servers()
    reconcile.reconcile()
    with tags(*reconcile.tags()), prefect_errors_hidden():
        yield


def _print_result(run: RunFolder) -> None:
    for record in run.manifest()["audio"]:
        print(run.path / record["path"])  # noqa: T201 - the command's answer


def encode(settings: EncodeSettings) -> None:
    """Turns audio files into codes files; prints their paths.

    Raises:
        JukeboxError: the settings or a file are invalid.
    """
    from pipelines.execution import preflight

    preflight.check_encode(settings)
    with _logged(settings.folder, "encode.log"), working():
        prefect_home.use(settings.storage.root)
        from pipelines.flows.codec import encode_flow

        print(*encode_flow(to_plain(settings)), sep="\n")  # noqa: T201 - the command's answer


def decode(settings: DecodeSettings) -> None:
    """Turns codes files into audio files; prints their paths.

    Raises:
        JukeboxError: the settings or a file are invalid.
    """
    from pipelines.execution import preflight

    preflight.check_decode(settings)
    with _logged(settings.folder, "decode.log"), working():
        prefect_home.use(settings.storage.root)
        from pipelines.flows.codec import decode_flow

        print(*decode_flow(to_plain(settings)), sep="\n")  # noqa: T201 - the command's answer


def features(settings: FeaturesSettings) -> None:
    """Takes features of recordings; prints the folder they are in. Finished recordings are kept.

    Raises:
        JukeboxError: the settings or all recordings are invalid, or another process writes to the folder.
    """
    from jukebox_core.base.locks import FileLock
    from jukebox_core.features.folder import FeatureFolder
    from pipelines.execution import features as execution
    from pipelines.settings.compose import dump

    prepared = execution.prepare(settings)
    if execution.unfinished(prepared) == [] and execution.is_finished(prepared):
        print(f"{settings.path} is finished; nothing is left to do", file=sys.stderr)  # noqa: T201 - for the user
        print(settings.path)  # noqa: T201 - the command's answer
        return
    with _logged(str(settings.path), "features.log"), working():
        lock = FileLock(settings.path / ".lock")
        if not lock.acquire():
            raise RunError(f"another process writes to {settings.path}; wait until it ends, or name another folder")
        try:
            FeatureFolder(settings.path).write_text("config.yaml", dump(settings))
            prefect_home.use(settings.storage.root)
            from pipelines.flows.features import run_features_flow

            with _flow_run():
                run_features_flow(prepared, to_plain(settings))
        finally:
            lock.release()
        print(settings.path)  # noqa: T201 - the command's answer


def align(settings: AlignSettings) -> None:
    """Brings the words of a run in time with its music; prints the paths of the files.

    Raises:
        JukeboxError: the run does not exist, is not finished at its top level, or has no lyrics.
    """
    from pipelines.console import shown_log
    from pipelines.execution import align as execution

    prepared = execution.prepare(settings)
    with shown_log(), working():
        print(*execution.align(prepared), sep="\n")  # noqa: T201 - the command's answer


def compose(settings: AlbumConfig) -> None:
    """Composes songs to learn from; prints the folder.

    Raises:
        JukeboxError: the folder holds other things, or cannot be written.
    """
    from pipelines.console import shown_log
    from stages.training.album import write_album

    with shown_log():
        print(write_album(settings))  # noqa: T201 - the command's answer


def dataset(settings: DatasetSettings) -> None:
    """Checks recordings to learn from and turns them into codes; prints the folder of codes, or the report's path.

    Raises:
        JukeboxError: the settings, the folder or the labels are invalid, or too many recordings are.
    """
    from pipelines.execution import preflight

    preflight.check_dataset(settings)
    with _logged(settings.folder, "dataset.log"):
        prefect_home.use(settings.storage.root)
        from pipelines.flows.dataset import dataset_flow

        print(dataset_flow(to_plain(settings)))  # noqa: T201 - the command's answer


def train(settings: TrainSettings) -> None:
    """Trains a model; prints its folder.

    Under torchrun only the first process runs a Prefect flow; the others call the same stages as plain functions.

    Raises:
        JukeboxError: the settings or the data are invalid, or training cannot continue.
    """
    import os

    if int(os.environ.get("RANK", "0")) > 0:
        from pipelines.flows.train import train as train_plain
        from pipelines.orchestration.training_calls import PLAIN

        train_plain(settings, PLAIN)
        return
    with _logged(settings.folder, "train.log"):
        prefect_home.use(settings.storage.root)
        from pipelines.flows.train import train_flow

        with _flow_run():
            print(train_flow(to_plain(settings)))  # noqa: T201 - the command's answer


@contextmanager
def _logged(folder: str, name: str) -> Iterator[None]:
    from pipelines.console import prefect_errors_hidden, run_log

    path = Path(folder).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make folder {path} ({error.strerror}); choose another one") from None
    with run_log(path / name), prefect_errors_hidden():
        yield
