"""Every route of `jukebox web`, found from the application itself, refuses strangers; none leaves its folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from starlette.routing import Mount

from jukebox_core.audio.files import write_audio
from pipelines.web.application import routes
from pipelines.web.views import uploads
from tests.helpers.servers.web import answering, site

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

    from pipelines.web.site import Site

pytestmark = pytest.mark.slow
CHANGES = ("POST", "PUT", "PATCH", "DELETE")


def listed(made: Site) -> list[tuple[str, str]]:
    """The method and address of every route, with a name that is nowhere in place of each parameter."""
    app, found = routes(made), []
    for path, methods in app.openapi()["paths"].items():
        found += [(method.upper(), path) for method in methods]
    pages = [("GET", path) for path in ("/", "/queue", "/models", "/help", "/api/openapi.json")]
    mounts = [("GET", f"{route.path}/style.css") for route in app.routes if isinstance(route, Mount)]
    places = {"{run}": "nowhere", "{sample}": "0", "{identifier}": "nowhere", "{model}": "nowhere"}
    for place, name in places.items():
        found = [(method, path.replace(place, name)) for method, path in found]
    assert not any("{" in path for _, path in found), "a parameter without a value here"
    return [*found, *pages, *mounts]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Site, httpx.Client]]:
    """A server that asks for no token."""
    one = site(tmp_path / "outputs")
    with answering(one) as client:
        yield one, client


@pytest.fixture
def made(served: tuple[Site, httpx.Client]) -> Site:
    return served[0]


@pytest.fixture
def client(served: tuple[Site, httpx.Client]) -> httpx.Client:
    return served[1]


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[tuple[Site, httpx.Client]]:
    """A server that asks for its token."""
    one = site(tmp_path / "closed", token=True)
    with answering(one) as client:
        yield one, client


def test_the_walk_finds_the_routes(made: Site) -> None:
    found = listed(made)
    assert len(found) > 30
    assert ("POST", "/api/songs") in found
    assert ("GET", "/static/style.css") in found


def test_every_route_refuses_foreign_hosts_origins_and_sites(made: Site, client: httpx.Client) -> None:
    for method, path in listed(made):
        assert client.request(method, path, headers={"Host": "evil.example"}).status_code == 421, path
        assert client.request(method, path, headers={"Origin": "http://evil.example"}).status_code == 403, path
        assert client.request(method, path, headers={"Origin": "null"}).status_code == 403, path
        site_header = {"Sec-Fetch-Site": "cross-site"}
        if path != "/":  # a link to the studio may be anywhere
            assert client.request(method, path, headers=site_header).status_code == 403, path


def test_every_route_asks_for_the_token(closed: tuple[Site, httpx.Client]) -> None:
    one, client = closed
    for method, path in listed(one):
        if path == "/static/style.css":
            continue
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": "jukebox=wrong"}, {"Cookie": "jukebox="}):
            assert client.request(method, path, headers=headers).status_code == 401, path
        client.cookies.clear()
        if "events" not in path:  # which does not end
            found = client.request(method, path, headers={"Authorization": f"Bearer {one.token}"})
            assert found.status_code != 401, path


def test_the_token_becomes_a_cookie_that_scripts_and_other_sites_do_not_get(closed: tuple[Site, httpx.Client]) -> None:
    one, client = closed
    assert client.get("/", headers={"Accept": "text/html"}).headers["location"] == "/enter"
    assert client.post("/enter", data={"token": "wrong"}).status_code == 401
    entered = client.get(f"/enter?token={one.token}")
    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    assert all(part in entered.headers["set-cookie"] for part in ("HttpOnly", "SameSite=Strict", "Path=/"))
    assert client.get("/api/runs").status_code == 200


def test_every_answer_has_the_policy_and_none_allows_other_origins(made: Site, client: httpx.Client) -> None:
    for method, path in listed(made):
        if path == "/api/events":
            continue
        headers = client.request(method, path).headers
        assert "default-src 'none'" in headers["content-security-policy"], path
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert not [name for name in headers if name.startswith("access-control-")], path


def test_no_route_fails_on_names_that_are_nowhere_or_leave_the_folder(
    made: Site, client: httpx.Client, tmp_path: Path
) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "manifest.json").write_text("{}")
    names = ["..%2Fsecret", "%2e%2e", "..", ".web", "%00", "a%0Ab", "%2Fetc", "x" * 300, "%F0%9F%8E%B5"]
    bodies: list[Any] = [{}, [], "x", None, {"seconds": 3}, {"sample": 0, "seconds": 2}, {"title": "x"}]
    for method, path in listed(made):
        if path == "/api/events":
            continue
        for name in names if "nowhere" in path else [""]:
            for body in bodies[:2] if method in CHANGES else [None]:
                found = client.request(method, path.replace("nowhere", name), json=body)
                assert found.status_code < 500, (method, path, name, body, found.text)
    for body in bodies:
        assert client.post("/api/songs", json=body).status_code in (200, 422)
    assert (tmp_path / "secret" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ({"seconds": -1}, "seconds"),
        ({"seconds": 1e400}, "seconds"),
        ({"number": 10**6}, "number"),
        ({"artist": "beetles"}, "artist"),
        ({"model": "/etc/passwd"}, "model"),
        ({"settings": {"storage.root": "/"}}, ""),
        ({"settings": {"sampling.level_2.temperature": "hot"}}, "sampling.level_2.temperature"),
        ({"prompt": {"id": "../../etc/passwd"}}, ""),
        ({"storage": "x"}, "storage"),
    ],
)
def test_a_refusal_has_value_rule_and_remedy(client: httpx.Client, body: dict[str, Any], key: str) -> None:
    content = '{"seconds": 1e400}' if body.get("seconds") == 1e400 else None
    headers = {"Content-Type": "application/json"}
    found = (
        client.post("/api/songs", content=content, headers=headers) if content else client.post("/api/songs", json=body)
    )
    assert found.status_code in (404, 422)
    answer = found.json()
    assert answer["message"]
    if found.status_code == 422:
        [problem, *_] = answer["problems"]
        assert (problem["key"], bool(problem["rule"]), bool(problem["remedy"])) == (key, True, True)


def test_bodies_are_limited(client: httpx.Client) -> None:
    assert client.post("/api/songs", content=b"x" * ((1 << 20) + 1)).status_code == 413
    assert client.post("/api/songs", content=iter([b"x"])).status_code == 411  # without a length
    assert client.post("/api/songs", content=b"{}", headers={"Content-Type": "text/plain"}).status_code == 422


def test_uploads_are_looked_into_limited_and_named_by_us(
    made: Site, client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    sound = write_audio(tmp_path / "sound.wav", np.zeros(22_050, np.float32), 22_050).read_bytes()
    found = client.post("/api/prompts", content=sound, headers={"X-Name": "../../evil.wav"})
    assert (found.status_code, found.json()["seconds"], found.json()["kind"]) == (201, 1.0, "wav")
    assert client.get(f"/api/prompts/{found.json()['id']}/audio", headers={"Range": "bytes=0-3"}).content == b"RIFF"
    for content in (b"", b"<html><script>", b"#!/bin/sh", b"RIFF\0\0\0\0WAVE", sound[:40], b"\x7fELF" + bytes(99)):
        assert client.post("/api/prompts", content=content).status_code == 422, content[:9]
    monkeypatch.setattr(uploads, "MOST_SECONDS", 0.5)
    assert "upload a part of it" in client.post("/api/prompts", content=sound).json()["message"]
    monkeypatch.setattr(uploads, "MOST_BYTES", 100)
    assert client.post("/api/prompts", content=sound).status_code == 422
    assert [path.suffix for path in made.uploads.folder.iterdir()] == [".wav"]
