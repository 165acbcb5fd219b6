"""A client of `jukebox web`: makes a song, prints its progress, and saves its sound.

python examples/web_client.py [ADDRESS] [WORDS]
"""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from pathlib import Path

ADDRESS = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:4280"
WORDS = sys.argv[2] if len(sys.argv) > 2 else "light the lantern"


def ask(path: str, body: object = None) -> dict:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{ADDRESS}/api/{path}", data, {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request))


made = ask("songs", {"model": "mini", "lyrics": WORDS, "artist": "music box", "seconds": 3, "seed": 1})
print(made["command"])
while not made["finished"]:
    job = ask(f"jobs/{made['job']['id']}")
    print(job["status"], {level: now["left"] for level, now in job["levels"].items()})
    made["finished"] = job["status"] in ("finished", "failed", "stopped")
    time.sleep(0.5)
sound = urllib.request.urlopen(f"{ADDRESS}/api/runs/{made['run']}/takes/0/audio").read()
Path("song.wav").write_bytes(sound)
print("song.wav", len(sound), "bytes")
