"""The stages as Prefect tasks, for flows that do not receive their stages yet: `prefect_stages` as a module."""

from __future__ import annotations

from typing import Any

from pipelines.orchestration.prefect_tasks import prefect_stages

_stages = prefect_stages()
fetch_vocabularies = _stages.fetch_vocabularies
fetch_weights = _stages.fetch_weights
label_songs = _stages.label_songs
encode_prompt = _stages.encode_prompt
sample_unit: Any = _stages.sample_unit
decode_track = _stages.decode_track
write_song_codes = _stages.write_song_codes
draw_sound = _stages.draw_sound
write_report = _stages.write_report
