"""Settings that are stored have no credentials of sources in them, and all else as it is."""

from __future__ import annotations

import pytest

from jukebox_core.errors import ConfigError
from jukebox_core.models.stored import has_password, without_credentials
from pipelines.settings.compose import TRAIN, compose


def test_addresses_of_sources_lose_their_credentials() -> None:
    given = {
        "model": {
            "files": {
                "weight_sources": ["https://me:pw@host/a?sig=x", "/data/me:pw@x", "hf://owner/name@main"],
                "weights": {"top": {"sources": ["lfs+https://me@host/x.git#https://me:pw@raw/x?t=1"], "path": "a"}},
                "vocabulary_sources": [
                    "s3://key:secret@bucket/x",
                    "s3://key:sec/ret@bucket/x",
                    "abfss://box@account.example/x",
                ],
            }
        },
        "weights": {"substitute": "http://me:pw@host/", "mirrors": ["https://[bad"], "folder": "https://me:pw@host"},
        "song": {"lyrics": "https://me:pw@host/?a"},
    }
    stored = without_credentials(given)
    files, weights = stored["model"]["files"], stored["weights"]
    assert files["weight_sources"] == ["https://host/a", "/data/me:pw@x", "hf://owner/name@main"]
    assert files["weights"]["top"]["sources"] == ["lfs+https://host/x.git#https://raw/x"]
    assert files["vocabulary_sources"] == ["s3://bucket/x", "s3://bucket/x", "abfss://box@account.example/x"]
    assert weights["substitute"] == "http://host/"
    assert (stored["song"], weights["folder"]) == (given["song"], given["weights"]["folder"])


def test_checkpoints_in_an_address_with_a_password_are_refused() -> None:
    assert not any(
        map(has_password, ("https://[bad", "s3://bucket/a:b", "https://host:80/a@b", "https://[::1]:80/a@b"))
    )
    with pytest.raises(ConfigError, match="checkpoints is an address with a password in it") as caught:
        compose(TRAIN, ["data.audio=music", "checkpoints=s3://key:hunter2@bucket/x"])
    assert "hunter2" not in str(caught.value)
