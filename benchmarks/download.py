"""Throughput of a download against curl's, from the same server on loopback: ``python -m benchmarks.download [MB]``.

Both write one file to the same disk; the server is a separate process. Then a download is killed halfway and resumed,
and the server reports how many bytes it sent twice. Prints a table, and one line of JSON last.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

SERVER = """
import os, re, socket, sys, threading
path, port = sys.argv[1], int(sys.argv[2])
size = os.path.getsize(path)
sent = []

def serve(connection):
    with connection, open(path, "rb") as file:
        request = b""
        while not request.endswith(b"\\r\\n\\r\\n"):
            request += connection.recv(65536)
        if request.startswith(b"GET /sent"):
            body = str(sum(sent)).encode()
            head = f"HTTP/1.1 200 OK\\r\\nContent-Length: {len(body)}\\r\\nConnection: close\\r\\n\\r\\n"
            connection.sendall(head.encode() + body)
            return
        span = re.search(rb"[Rr]ange: bytes=(\\d+)-(\\d*)", request)
        start = int(span[1]) if span else 0
        stop = int(span[2]) + 1 if span and span[2] else size
        head = "206 Partial Content" if span else "200 OK"
        part = f"Content-Range: bytes {start}-{stop - 1}/{size}\\r\\n" if span else ""
        connection.sendall((f"HTTP/1.1 {head}\\r\\nContent-Length: {stop - start}\\r\\nAccept-Ranges: bytes\\r\\n"
                            f"ETag: one\\r\\n{part}Connection: close\\r\\n\\r\\n").encode())
        try:
            while start < stop:
                sent.append(os.sendfile(connection.fileno(), file.fileno(), start, min(stop - start, 1 << 20)))
                start += sent[-1]
        except OSError:
            pass

listening = socket.create_server(("127.0.0.1", port), backlog=64)
print("ready", flush=True)
while True:
    threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()
"""

CLIENT = """
import sys
from jukebox_core.models.config import FileSpec
from jukebox_core.models.download.fetch import fetch_file
url, folder, connections = sys.argv[1:]
import time
began = time.perf_counter()
fetch_file(FileSpec(path="file"), [url], folder, connections=int(connections))
seconds = time.perf_counter() - began
print(seconds, next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def free_port() -> int:
    """Returns a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


ENVIRONMENT = {**os.environ, "no_proxy": "*"}


def client(url: str, folder: Path, connections: int) -> list[str]:
    """Returns the command that downloads with this program."""
    return [sys.executable, "-c", CLIENT, url, str(folder / "ours"), str(connections)]


def ours(url: str, folder: Path, connections: int) -> tuple[float, int]:
    """Returns seconds and peak memory in bytes of one download with this program, including digest and fsync."""
    command = client(url, folder, connections)
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=ENVIRONMENT)
    shutil.rmtree(folder / "ours")
    seconds, peak = done.stdout.split()
    return float(seconds), int(peak) * 1024


def sent(url: str) -> int:
    """Returns the bytes of the file that the server has sent so far."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{url}/sent") as reply:
        return int(reply.read())


def sent_twice(url: str, folder: Path, connections: int, size: int) -> int:
    """Returns the bytes that the server sends again when a download is killed halfway and resumed."""
    before, command = sent(url), client(url, folder, connections)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=ENVIRONMENT) as process:
        while sent(url) - before < size // 2:
            assert process.poll() is None, "the download ended before it was killed"
            time.sleep(0.002)
        process.kill()
    subprocess.run(command, check=True, capture_output=True, env=ENVIRONMENT)
    shutil.rmtree(folder / "ours")
    return sent(url) - before - size


def curl(url: str, folder: Path, *, sync: bool, hashed: bool) -> float:
    """Returns the seconds of one download with curl, optionally followed by fsync and sha256sum."""
    target = folder / "curl"
    began = time.perf_counter()
    subprocess.run(["curl", "-s", "--noproxy", "*", "-o", str(target), f"{url}/file"], check=True)
    if sync:
        subprocess.run(["sync", str(target)], check=True)
    if hashed:
        subprocess.run(["sha256sum", str(target)], check=True, capture_output=True)
    seconds = time.perf_counter() - began
    target.unlink()
    return seconds


def run(megabytes: int = 1000, rounds: int = 5) -> dict[str, float]:
    """Measures in interleaved rounds; returns medians, in bytes per second."""
    with tempfile.TemporaryDirectory(prefix="jukebox-download-") as temporary:
        folder, port = Path(temporary), free_port()
        block = random.Random(0).randbytes(1_000_000)
        with (folder / "file").open("wb") as file:
            for _ in range(megabytes):
                file.write(block)
        size, url = (folder / "file").stat().st_size, f"http://127.0.0.1:{port}"
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(folder / "file"), str(port)], stdout=subprocess.PIPE, text=True
        )
        assert server.stdout is not None
        try:
            server.stdout.readline()
            seconds_by: dict[str, list[float]] = {}
            peaks = []
            for _ in range(rounds):
                seconds_by.setdefault("curl", []).append(curl(url, folder, sync=False, hashed=False))
                seconds_by.setdefault("curl_sync", []).append(curl(url, folder, sync=True, hashed=False))
                seconds_by.setdefault("curl_sync_sha256", []).append(curl(url, folder, sync=True, hashed=True))
                for connections in (1, 4):
                    seconds, peak = ours(url, folder, connections)
                    seconds_by.setdefault(f"ours_{connections}", []).append(seconds)
                    peaks.append(peak)
            twice = {f"sent_twice_{connections}": sent_twice(url, folder, connections, size) for connections in (1, 4)}
        finally:
            server.terminate()
            server.wait()
    result = {f"{name}_bytes_per_second": size / statistics.median(seconds) for name, seconds in seconds_by.items()}
    return {"bytes": size, **result, "peak_memory_bytes": max(peaks), **twice}


def table(result: dict[str, float]) -> str:
    """Returns the result as text."""
    lines = [f"{name:<36} {value:>16,.0f}" for name, value in result.items()]
    best = result["curl_bytes_per_second"]
    lines += [
        f"{name.removesuffix('_bytes_per_second'):<20} {value / best:>6.1%} of curl"
        for name, value in result.items()
        if name.endswith("_per_second")
    ]
    lines += [
        f"{name:<20} {value / result['bytes']:>6.2%} of the file"
        for name, value in result.items()
        if name.startswith("sent_twice")
    ]
    return "\n".join(lines)


def main() -> None:
    """Measures and prints."""
    result = run(*map(int, sys.argv[1:2]))
    print(table(result))
    print(json.dumps([{"benchmark": "download", **result}]))


if __name__ == "__main__":
    main()
