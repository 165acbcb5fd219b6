"""No server that the product opens does anything for a web page or a program without the password; attacks are sent."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

from jukebox_core.base.processes import name_of
from pipelines.orchestration import database, own_server, prefect_home
from pipelines.orchestration.password import own_password
from tests.helpers.servers.prefect_site import environment, wait
from tests.helpers.servers.strangers import send, succeeded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

OWN_CLIENT = """
from prefect import flow, task
from prefect.client.orchestration import get_client

@task
def two():
    return 2

@flow
def ours():
    return two()

assert ours() == 2
with get_client(sync_client=True) as client:
    print(client.read_flow_runs()[0].state_name)
"""
RAY = """
import os, sys
from pipelines.execution.runner import close_own_ray
close_own_ray()
os.environ["RAY_raylet_start_wait_time_s"] = "300"
import ray
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
print(ray.get(ray.remote(lambda: 7).remote()), flush=True)
sys.stdin.read()
ray.shutdown()
"""
EPHEMERAL = """
import os, sys
from pipelines.orchestration import prefect_home
prefect_home.use(sys.argv[1])
print(os.environ["PREFECT_API_URL"], flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A storage folder with Prefect's database."""
    folder = tmp_path_factory.mktemp("root")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PREFECT_")]:
            patch.delenv(name)
        before = dict(os.environ)
        database.prepare_database(prefect_home.set_environment(str(folder)))
        yield folder
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


def our_own_client(url: str, password: str, folder: Path) -> str:
    env = environment(folder, PREFECT_API_URL=url, PREFECT_API_AUTH_STRING=password, PREFECT_HOME=str(folder / "home"))
    done = subprocess.run(
        [sys.executable, "-c", OWN_CLIENT], env=env, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


async def _subscribes(url: str, token: str | None, **headers: str) -> bool:
    from websockets.asyncio.client import connect
    from websockets.exceptions import WebSocketException

    address = url.replace("http://", "ws://") + "/events/out"
    try:
        async with connect(address, subprotocols=["prefect"], additional_headers=headers, proxy=None) as socket:  # type: ignore[list-item]
            await socket.send(json.dumps({"type": "auth", "token": token}))
            return bool(json.loads(await socket.recv())["type"] == "auth_success")
    except WebSocketException:
        return False


def test_the_server_of_serve_answers_its_owner_only(root: Path, tmp_path: Path) -> None:
    home = root / ".prefect"
    password = own_password(home)
    with own_server.running(home, "127.0.0.1", 0, prefect_home.answers) as (url, _):
        assert succeeded(url, password) == []
        assert send(url, "GET", "/api/version", password=password)[0] == 200
        assert send(url, "GET", "/api/health")[0] == 200  # says nothing but that it is there
        assert send(url, "GET", "/", Origin=url.removesuffix("/api"))[0] in (200, 307)  # the page that asks for it
        assert our_own_client(url, password, tmp_path) == "Completed"
        assert asyncio.run(_subscribes(url, password))
        assert not asyncio.run(_subscribes(url, None))
        assert not asyncio.run(_subscribes(url, "jukebox:guess"))
        assert not asyncio.run(_subscribes(url, password, Origin="http://evil.example"))
    assert not prefect_home.answers(url)
    secret = password.partition(":")[2].encode()
    assert [path.name for path in home.iterdir() if path.is_file() and secret in path.read_bytes()] == ["password"]


@pytest.mark.endurance
def test_the_server_of_a_command_answers_its_owner_only_and_ends_with_it(root: Path, tmp_path: Path) -> None:
    env = environment(tmp_path)
    command = [sys.executable, "-c", EPHEMERAL, str(root)]
    process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        password = (root / ".prefect" / "password").read_text()
        assert stat.S_IMODE((root / ".prefect" / "password").stat().st_mode) == 0o600
        assert succeeded(url, password) == []
        assert our_own_client(url, password, tmp_path) == "Completed"
    finally:
        process.kill()  # not in order: nobody ends the server
        process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            stream.close()
    wait("the end of the server", lambda: not prefect_home.answers(url), 30)


def listening_below(pid: int) -> set[tuple[str, int]]:
    """Addresses and ports on which a process and those that it started listen."""
    import psutil

    here = psutil.Process(pid)
    return {
        (found.laddr.ip, found.laddr.port)
        for process in (here, *here.children(recursive=True))
        for found in process.net_connections("tcp")
        if found.status == "LISTEN"
    }


def test_a_dask_cluster_of_a_run_is_closed_to_strangers() -> None:
    pytest.importorskip("prefect_dask")
    from distributed import Client, LocalCluster
    from distributed.comm.core import CommClosedError

    from pipelines.execution.runner import _own_dask
    from pipelines.settings.common import RunnerSettings

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    options = _own_dask(RunnerSettings(kind="dask", workers=1))
    with LocalCluster(**options) as cluster:
        with Client(cluster, set_as_default=False) as own:
            assert own.submit(name_of, 1).result()
        listening = listening_below(os.getpid())
        assert {address for address, _ in listening} <= {"127.0.0.1"}
        for _, port in listening:  # each is TLS with a certificate, or a server without any page
            for path in ("/status", "/info/main/workers.html", "/api/v1/retire_workers", "/json/identity.json"):
                with pytest.raises((urllib.error.URLError, OSError)):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10)
        with pytest.raises((OSError, CommClosedError, TypeError, ValueError)):
            Client(cluster.scheduler_address, timeout=2, set_as_default=False)


@pytest.mark.endurance
def test_a_ray_cluster_of_a_run_listens_on_loopback_only(tmp_path: Path) -> None:
    """That of metrics too, which asks for no token."""
    pytest.importorskip("prefect_ray")
    with subprocess.Popen(
        [sys.executable, "-c", RAY], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "7"
        time.sleep(5)  # the agent's servers begin last
        listening = listening_below(process.pid)
        process.communicate()
    assert len(listening) > 3
    assert {address for address, _ in listening} <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
