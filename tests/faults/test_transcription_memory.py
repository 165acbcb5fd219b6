"""The memory of a transcription does not grow with the recording."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from tests.helpers.models.mt3 import write_tiny_preset
from tests.helpers.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.endurance]

PROGRAM = """
import sys
from pipelines.execution.transcription import check
from pipelines.flows.transcribe import transcribe_files
from pipelines.orchestration.stage_calls import PLAIN
from pipelines.settings.compose import TRANSCRIBE, compose
settings = compose(TRANSCRIBE, sys.argv[1:])
transcribe_files(settings, check(settings), PLAIN)
status = open("/proc/self/status").read()
print(next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")))
"""


def peak(root: Path, minutes: int) -> float:
    """The peak memory in MiB of the transcription of stereo noise with all kinds of files."""
    path = root / f"{minutes}.flac"
    random = np.random.default_rng(1)
    minute = (0.1 * random.standard_normal((60 * 44_100, 2))).astype(np.float32)
    with soundfile.SoundFile(path, "w", 44_100, 2) as file:
        for _ in range(minutes):
            file.write(minute)
    command = [
        sys.executable, "-c", PROGRAM, f"model={root}/tiny.yaml", f"audio=[{path}]", f"folder={root}/{minutes}",
        f"storage.root={root}/{minutes}-root", f"weights.folder={root}/weights", "hardware.device=cpu",
        "hardware.threads=1", "csv=true", "lines=true", "report=true", "transcription.max_tokens=12",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert (root / f"{minutes}/{minutes}.html").is_file()
    return int(done.stdout.split()[-1]) / 1024


def test_half_an_hour_takes_no_more_memory_than_ten_minutes(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    write_tiny_preset(tmp_path, frames=256)
    short, long = peak(tmp_path, 10), peak(tmp_path, 30)
    record_property("figures", f"peak {short:.0f} MiB for 10 minutes, {long:.0f} MiB for 30, interpreter included")
    assert long < short + 60  # 20 minutes are 404 MiB as they are decoded, 73 MiB as they are transcribed
