"""The JSON schema of settings says what the records say."""

from __future__ import annotations

import json
from dataclasses import fields

from pipelines.settings.compose import GENERATE, compose
from pipelines.settings.generate import Settings
from pipelines.settings.schema import schema


def test_every_setting_is_in_the_schema_with_its_type_and_default() -> None:
    found = schema(Settings, {"model": {"family": "jukebox"}})
    assert set(found["properties"]) == {field.name for field in fields(Settings)}
    seconds = found["properties"]["seconds"]
    assert seconds["type"] == "number"
    assert seconds["description"].startswith("length of the music")
    assert found["properties"]["sampling"]["properties"]["level_2"]["properties"]["top_k"]["anyOf"][1] == {
        "type": "null"
    }
    assert found["properties"]["output"]["properties"]["format"]["enum"] == ["wav", "flac", "mp3"]
    assert "seconds" in found["required"]
    assert "songs" not in found["required"]
    json.dumps(found, allow_nan=False)


def test_the_settings_of_a_run_have_the_names_of_the_schema() -> None:
    made = compose(GENERATE)
    found = schema(Settings, {"model": {"family": made.model.family}})
    sampling = found["properties"]["sampling"]["properties"]
    assert set(sampling) == {field.name for field in fields(made.sampling)}
