"""What a web page or another program sends to a Prefect server in order to run a command through it."""

from __future__ import annotations

import base64
import http.client
import json
from urllib.parse import urlsplit

FLOW = "/api/flows/"
POOL = "/api/work_pools/"
DEPLOYMENT = "/api/deployments/"
RUN = "/api/flow_runs/"
COMMAND = {"prefect.deployments.steps.run_shell_script": {"script": "id"}}
REQUESTS: list[tuple[str, str, object]] = [
    ("POST", FLOW, {"name": "attack"}),
    ("POST", POOL, {"name": "attack", "type": "process"}),
    (
        "POST",
        DEPLOYMENT,
        {"name": "attack", "flow_id": "00000000-0000-0000-0000-000000000000", "pull_steps": [COMMAND]},
    ),
    ("POST", RUN, {"flow_id": "00000000-0000-0000-0000-000000000000"}),
    ("POST", "/api/flows/filter", {}),
    ("POST", "/api/deployments/filter", {}),
    ("POST", "/api/logs/filter", {}),
    ("GET", "/api/version", None),
    ("GET", "/api/admin/settings", None),
    ("GET", "/api/admin/database/clear", None),
    ("GET", "/api/csrf-token?client=attack", None),
    ("DELETE", "/api/work_pools/jukebox", None),
]
FOREIGN = {
    "origin": {"Origin": "http://evil.example"},
    "null": {"Origin": "null"},
    "other port": {"Origin": "http://localhost:3000"},
    "host": {"Host": "evil.example"},
    "both": {"Origin": "http://evil.example", "Host": "evil.example"},
}


def send(
    url: str, method: str, path: str, body: object = None, password: str | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers in lower case, and content of the answer to one request to the server of an API address."""
    address = urlsplit(url)
    assert address.hostname is not None
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
    sent = {"Content-Type": "text/plain", **{name.replace("_", "-"): value for name, value in headers.items()}}
    if password is not None:
        sent["Authorization"] = "Basic " + base64.b64encode(password.encode()).decode()
    try:
        connection.request(method, path, None if body is None else json.dumps(body), sent)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def succeeded(url: str, password: str) -> list[str]:
    """The attacks on a server that were not refused; `password` is the right one, which not all of them have."""
    found = []
    for method, path, body in REQUESTS:
        for wrong in (None, "jukebox:guess", ""):
            status, _, content = send(url, method, path, body, wrong, Content_Type="application/json")
            if status not in (401, 403):
                found.append(f"{method} {path} with the password {wrong!r}: {status} {content[:80]!r}")
        for name, headers in FOREIGN.items():
            for given in (None, password):
                status, answered, content = send(url, method, path, body, given, **headers)
                if status not in (403, 421) or "access-control-allow-origin" in answered:
                    found.append(f"{method} {path} from a foreign {name}: {status} {content[:80]!r}")
        status, _, content = send(url, method, path, body, password, Content_Type="application/json")
        if method != "GET" and status != 403:  # a page that stole the password has no token of the CSRF protection
            found.append(f"{method} {path} without a token: {status} {content[:80]!r}")
    asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    status, answered, _ = send(url, "OPTIONS", FLOW, **asked)
    if status < 400 or "access-control-allow-origin" in answered:
        found.append(f"a preflight request: {status}")
    return found
