from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
import torch
from lightning_fabric import Fabric

from jukebox_core.errors import ConfigError, TrainingError
from jukebox_core.training.batch_order import EndlessBatchSampler
from jukebox_core.training.config import DevicesConfig
from jukebox_core.training.devices import start_fabric
from jukebox_core.training.log import METRICS_NAME, read_entries
from jukebox_core.training.loop import CHECKPOINT_NAME, LOG_FOLDER, TrainingLoop
from jukebox_core.training.weights import write_half_weights
from tests.helpers.damage import KINDS, damage
from tests.helpers.models.tiny_training import run, subject, training
from tests.helpers.paths import ROOT, TESTS
from tests.helpers.small_files import small_files

if TYPE_CHECKING:
    from pathlib import Path


def losses(folder: Path, part: str = "train") -> dict[int, float]:
    entries = read_entries(folder / LOG_FOLDER / METRICS_NAME)
    return {int(entry["step"]): entry["loss"] for entry in entries if entry["part"] == part}


def weights(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(folder / CHECKPOINT_NAME, weights_only=True)
    return found


@pytest.mark.parametrize("batches", [1, 2])
def test_a_stopped_training_resumes_without_a_difference(tmp_path: Path, batches: int) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(whole, gradient_accumulation_steps=batches).finished
    calls = iter(range(100))
    first = run(parts, lambda: next(calls) == 6, gradient_accumulation_steps=batches)
    assert (first.step, first.finished) == (7, False)
    second = run(parts, gradient_accumulation_steps=batches)
    assert second.finished
    assert losses(parts) == losses(whole)
    assert losses(parts, "check") == losses(whole, "check")
    assert len(losses(whole)) == 12
    mine, theirs = weights(parts), weights(whole)
    assert mine["step"] == theirs["step"] == 12
    for name, tensor in theirs["module"].items():
        assert tensor.equal(mine["module"][name]), name
    for name, tensor in theirs["ema"]["averages"].items():
        assert tensor.equal(mine["ema"]["averages"][name]), name


@pytest.mark.slow
@pytest.mark.endurance
def test_a_killed_training_resumes_with_the_losses_of_an_uninterrupted_one(tmp_path: Path) -> None:
    program = [sys.executable, str(TESTS / "helpers/models/tiny_training.py")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    steps, parts, whole = "60", tmp_path / "parts", tmp_path / "whole"
    process = subprocess.Popen([*program, str(parts), steps], env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(losses(parts)) < 22 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 22 <= len(losses(parts)) < 60  # it was killed on the way
    for folder in (parts, whole):
        subprocess.run([*program, str(folder), steps], env=environment, check=True, stdout=subprocess.DEVNULL)
    assert losses(parts) == losses(whole)
    assert len(losses(whole)) == 60


@pytest.mark.slow
@pytest.mark.endurance
@pytest.mark.parametrize(
    ("strategy", "kind"),
    [
        ("ddp", "one_sequence"),
        ("ddp", "transcriber"),
        ("fsdp", "one_sequence"),
    ],
)
def test_two_processes_learn_what_one_learns(tmp_path: Path, strategy: str, kind: str) -> None:
    """Two halves of every batch, their gradients averaged: the same losses, but for the order of additions."""
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    script = TESTS / "helpers/processes/two_trainings.py"
    for steps in ("4", "6"):  # the second resumes where the first ended
        arguments = [str(script), str(tmp_path / "two"), strategy, steps, kind]
        subprocess.run([*program, *arguments], env=environment, check=True, timeout=300)
    run(tmp_path / "one", kind=kind, max_steps=6, batch_size=4)
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == 6
    assert two == pytest.approx(one, rel=1e-4)
    assert losses(tmp_path / "two", "check")[6] == pytest.approx(losses(tmp_path / "one", "check")[6], rel=1e-3)
    mine, theirs = weights(tmp_path / "two"), weights(tmp_path / "one")
    for name, tensor in theirs["module"].items():
        torch.testing.assert_close(mine["module"][name], tensor, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(mine["ema"]["averages"], theirs["ema"]["averages"], rtol=1e-3, atol=1e-4)


def test_checkpoints_may_have_any_url(tmp_path: Path) -> None:
    url = "memory://checkpoints/one"
    run(tmp_path / "whole")
    calls = iter(range(100))
    run(tmp_path / "parts", lambda: next(calls) == 6, checkpoints=url)
    assert run(tmp_path / "parts", checkpoints=url).finished
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert not list(tmp_path.rglob("parts/*.pt"))


def test_fsdp_on_one_device_is_refused() -> None:
    with pytest.raises(ConfigError, match="strategy is 'fsdp', but there is one device"):
        DevicesConfig(strategy="fsdp")


def test_a_killed_save_leaves_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, max_steps=4)
    before = (tmp_path / CHECKPOINT_NAME).read_bytes()

    def broken(*_: Any, **__: Any) -> None:
        (tmp_path / ".next.pt").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("lightning_fabric.Fabric.save", broken)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, max_steps=8)
    assert (tmp_path / CHECKPOINT_NAME).read_bytes() == before


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, max_steps=4)
    before = (tmp_path / CHECKPOINT_NAME).read_bytes()
    real = Fabric.save

    def full(*arguments: Any) -> None:
        with small_files(2000):
            real(*arguments)

    monkeypatch.setattr(Fabric, "save", full)
    with pytest.raises(TrainingError, match="free some space there, and run the same command"):
        run(tmp_path, max_steps=8)
    assert (tmp_path / CHECKPOINT_NAME).read_bytes() == before


def test_recomputed_activations_change_no_loss(tmp_path: Path) -> None:
    run(tmp_path / "kept", max_steps=3)
    run(tmp_path / "recomputed", max_steps=3, gradient_checkpointing=True)
    assert losses(tmp_path / "kept") == pytest.approx(losses(tmp_path / "recomputed"), rel=1e-6)


def test_another_models_checkpoint_is_refused(tmp_path: Path) -> None:
    run(tmp_path, max_steps=4)
    with pytest.raises(TrainingError, match="is no checkpoint of this training"):
        run(tmp_path, max_steps=8, kind="top")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", [0, 5000])
def test_a_damaged_checkpoint_is_one_error_or_does_no_harm(tmp_path: Path, kind: str, at: int) -> None:
    """What is no checkpoint any more is refused; a link to one is used."""
    run(tmp_path, max_steps=2)
    damage(tmp_path / CHECKPOINT_NAME, kind, at)
    if kind in ("missing", "dangling link", "link", "loop"):
        assert run(tmp_path, max_steps=3).step == 3
    else:
        with pytest.raises(TrainingError, match="is no checkpoint of this training"):
            run(tmp_path, max_steps=3)


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[Any, ...]:
            return print, ("run",)

    run(tmp_path, max_steps=2)
    torch.save({**weights(tmp_path), "more": Harmful()}, tmp_path / CHECKPOINT_NAME)
    with pytest.raises(TrainingError, match="is no checkpoint of this training"):
        run(tmp_path, max_steps=3)


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path: Path) -> None:
    broken, how = subject("top"), training(max_steps=3)
    with torch.no_grad():
        broken.step.prior.output.weight.fill_(torch.nan)
    fabric = start_fabric(DevicesConfig(accelerator="cpu"), how.loop.precision)
    with pytest.raises(TrainingError, match="top: the gradient of step 0 has norm nan"):
        TrainingLoop(fabric, broken, how, tmp_path, print).run()
    assert not (tmp_path / CHECKPOINT_NAME).exists()


@pytest.mark.parametrize("spoils", ["weight", "average", "moment"])
def test_numbers_that_are_not_finite_are_not_stored_and_the_last_checkpoint_is_kept(
    tmp_path: Path, spoils: str
) -> None:
    trained, how = subject("top"), training()
    fabric = start_fabric(DevicesConfig(accelerator="cpu"), how.loop.precision)
    loop = TrainingLoop(fabric, trained, how, tmp_path, print)
    steps = iter(range(100))

    def stop() -> bool:
        if next(steps) == 6:  # after step 7; the checkpoint is of step 4
            assert loop.ema is not None
            moments = next(iter(loop.optimiser.state.values()))
            spoilt = {
                "weight": trained.step.prior.output.weight,
                "average": list(loop.ema.averages.values())[3],
                "moment": moments["second"],
            }
            with torch.no_grad():
                spoilt[spoils].view(-1)[0] = torch.inf
            return True
        return False

    before = (
        r"not finite after step 7; lower the learning rate, .*; the checkpoint of step 4 is kept, and the same comm"
    )
    with pytest.raises(TrainingError, match=rf"^top: .*{spoils}.* is {before}"):
        loop.run(stop)
    stored = weights(tmp_path)
    assert stored["step"] == 4
    assert all(tensor.isfinite().all() for tensor in stored["module"].values())
    assert run(tmp_path, kind="top").finished


def test_a_loss_that_is_not_finite_ends_the_training_though_its_gradient_is(tmp_path: Path) -> None:
    trained, how = subject("top"), training(max_steps=3)
    losses_of = trained.step.forward

    def forward(*arguments: Any) -> Any:
        loss, metrics = losses_of(*arguments)
        return loss + torch.inf, metrics

    trained.step.forward = forward
    fabric = start_fabric(DevicesConfig(accelerator="cpu"), how.loop.precision)
    with pytest.raises(TrainingError, match=r"step 0 has norm .*, its loss is inf; .*; no checkpoint was stored yet"):
        TrainingLoop(fabric, trained, how, tmp_path, print).run()
    assert not (tmp_path / CHECKPOINT_NAME).exists()


def test_a_stored_checkpoint_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    run(tmp_path, max_steps=4)
    stored = weights(tmp_path)
    next(iter(stored["module"].values())).view(-1)[0] = torch.nan
    torch.save(stored, tmp_path / CHECKPOINT_NAME)
    with pytest.raises(TrainingError, match=r"checkpoint\.pt, of step 4, holds numbers that are not finite; remove it"):
        run(tmp_path, max_steps=8)


def test_weights_beyond_half_precision_are_not_exported(tmp_path: Path) -> None:
    module = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(module.bias, 1e5)
    with pytest.raises(TrainingError, match=r"bias reaches 1e\+05, but weights are exported in half precision"):
        write_half_weights(module, tmp_path / "weights.safetensors", {})
    assert not list(tmp_path.iterdir())


def test_several_processes_need_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    with pytest.raises(ConfigError, match="start it as `torchrun --nproc-per-node 2"):
        start_fabric(DevicesConfig(accelerator="cpu", devices=2), "32-true")


def test_an_epoch_has_every_item_once_and_its_order_is_a_function_of_the_batch_number() -> None:
    def batches(count: int, **changes: int) -> list[list[int]]:
        order = iter(EndlessBatchSampler(10, 2, 3, **changes))
        return [next(order) for _ in range(count)]

    epoch = [item for batch in batches(5) for item in batch]
    assert sorted(epoch) == list(range(10))
    following = [item for batch in batches(5, first=5) for item in batch]
    assert sorted(following) == list(range(10, 20))
    assert [item - 10 for item in following] != epoch
    assert batches(10)[5:] == batches(5, first=5)
    shared = [batches(5, rank=rank, world_size=2) for rank in range(2)]
    assert [[*one, *two] for one, two in zip(*shared, strict=True)] == [
        [*one, *two] for one, two in zip(batches(10)[::2], batches(10)[1::2], strict=True)
    ]


def test_torn_and_damaged_lines_of_a_log_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / METRICS_NAME
    good = json.dumps({"step": 1, "loss": 2.0})
    path.write_text(good + '\n{"step": 2, "lo')
    assert read_entries(path) == [{"step": 1, "loss": 2.0}]
    path.write_bytes(b'[]\n\xff\n{"loss": 1}\n' + b"[" * 100_000 + b"\n" + good.encode())
    assert read_entries(path) == [{"step": 1, "loss": 2.0}]
