"""What the page shows as a command is one that a shell takes, in the folder where the server was started."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest

from jukebox_core.audio.files import write_audio
from jukebox_core.errors import ConfigError
from pipelines.web.access import VARIABLE, own_token
from pipelines.web.jobs.commands import Recent, composed, packed, unpacked
from pipelines.web.requests import NewSong, Prompt
from pipelines.web.settings import WebSettings
from pipelines.web.site import Site


@pytest.mark.slow
def test_an_upload_is_named_as_a_shell_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    site = Site(WebSettings(storage_root="outputs", port=0))
    try:
        site.uploads.folder.mkdir(parents=True)
        identifier = "0123456789abcdef"
        write_audio(site.uploads.folder / f"{identifier}.wav", np.zeros(44_100, np.float32), 22_050)
        found = site.submit(site.actions.new_song(NewSong(prompt=Prompt(id=identifier))), "a song", check=True)
    finally:
        site.close()
    words = shlex.split(found["command"])[1:]
    assert f'prompt.files=["outputs/.web/prompts/{identifier}.wav"]' in words
    assert not any(str(tmp_path) in word for word in words)
    [file] = composed(words).settings.prompt.files
    assert Path(file).is_file()


def test_the_token_of_the_environment_is_checked_and_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "a-token-of-my-own")
    assert own_token(tmp_path) == "a-token-of-my-own"
    for wrong in ("short", "a;cookie;in;the;cookie", "two words and more", "x" * 201):
        monkeypatch.setenv(VARIABLE, wrong)
        with pytest.raises(ConfigError, match="give 16 to 200 of these") as refused:
            own_token(tmp_path)
        assert wrong not in str(refused.value)
    monkeypatch.delenv(VARIABLE)
    made = own_token(tmp_path)
    assert len(made) >= 16
    assert own_token(tmp_path) == made


def test_what_was_checked_is_not_composed_again_and_travels_whole() -> None:
    recent, arguments = Recent(), ["generate", "model=mini", "seconds=3"]
    first = recent.composed(arguments)
    assert recent.composed(arguments) is first
    assert unpacked(packed(first)) == first
