"""Throughput of a download against curl's, from the same server on loopback: ``python -m benchmarks.download [MB]``.

Both write one file to the same disk; the server is a process of its own. Then a download is killed at half and begun
again, and the server tells how many bytes it had to send twice. Prints a table, and one line of JSON last.
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
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


ENVIRONMENT = {**os.environ, "no_proxy": "*"}


def client(url: str, folder: Path, connections: int) -> list[str]:
    """The command that downloads with this program."""
    return [sys.executable, "-c", CLIENT, url, str(folder / "ours"), str(connections)]


def ours(url: str, folder: Path, connections: int) -> tuple[float, int]:
    """Seconds and peak memory in bytes of one download with this program, digest and fsync included."""
    command = client(url, folder, connections)
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=ENVIRONMENT)
    shutil.rmtree(folder / "ours")
    seconds, peak = done.stdout.split()
    return float(seconds), int(peak) * 1024


def sent(url: str) -> int:
    """Bytes of the file that the server has sent so far."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{url}/sent") as reply:
        return int(reply.read())


def sent_twice(url: str, folder: Path, connections: int, size: int) -> int:
    """Bytes that the server sends more than once when a download is killed at half and begun again."""
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
    """Seconds of one download with curl; with fsync or sha256sum after it, as a person would do by hand."""
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
    """Measures in turns; medians, in bytes a second."""
    with tempfile.TemporaryDirectory(prefix="jukebox-download-") as name:
        folder, port = Path(name), free_port()
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
            taken: dict[str, list[float]] = {}
            peaks = []
            for _ in range(rounds):
                taken.setdefault("curl", []).append(curl(url, folder, sync=False, hashed=False))
                taken.setdefault("curl_sync", []).append(curl(url, folder, sync=True, hashed=False))
                taken.setdefault("curl_sync_sha256", []).append(curl(url, folder, sync=True, hashed=True))
                for connections in (1, 4):
                    seconds, peak = ours(url, folder, connections)
                    taken.setdefault(f"ours_{connections}", []).append(seconds)
                    peaks.append(peak)
            twice = {f"sent_twice_{connections}": sent_twice(url, folder, connections, size) for connections in (1, 4)}
        finally:
            server.terminate()
            server.wait()
    result = {f"{what}_bytes_per_second": size / statistics.median(seconds) for what, seconds in taken.items()}
    return {"bytes": size, **result, "peak_memory_bytes": max(peaks), **twice}


def table(result: dict[str, float]) -> str:
    """The result for people."""
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
