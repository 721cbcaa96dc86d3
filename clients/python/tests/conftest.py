"""Starts redis-server on a free loopback port, or uses COATCHECK_TEST_REDIS."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import pytest
import redis

from coatcheck import Config, Manager

sys.path.insert(0, str(Path(__file__).parent))


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def await_server(port: int) -> None:
    """Returns when a server answers."""
    deadline = time.monotonic() + 20
    while True:
        try:
            redis.Redis(port=port, socket_timeout=1, retry=None).ping()
            return
        except redis.exceptions.RedisError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


class Server:
    """A redis-server of one's own."""

    def __init__(self, *options: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self.dir = tempfile.mkdtemp(prefix="coatcheck-python-")
        self.options = options
        self.url = f"redis://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
             "--appendonly", "no", "--dir", self.dir, *self.options],
            stdout=subprocess.DEVNULL,
        )
        try:
            await_server(self.port)
        except BaseException:
            self.stop()
            raise

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=5)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.resume()
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)


@pytest.fixture(scope="session")
def url():
    """The URL of the server that the tests share."""
    given = os.environ.get("COATCHECK_TEST_REDIS")
    if given:
        yield given
        return
    server = Server()
    yield server.url
    server.close()


@pytest.fixture
def server():
    """A server that the test may stop."""
    s = Server()
    yield s
    s.close()


@pytest.fixture
def namespace():
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def manager(url, namespace):
    m = Manager.open(url, Config(namespace=namespace))
    yield m
    m.close()


def pytest_terminal_summary(terminalreporter):
    for module, what in (("test_vectors", "vectors"), ("test_contract", "contract")):
        counts = getattr(sys.modules.get(module), "counts", {})
        if counts:
            parts = ", ".join(f"{k} {n}" for k, n in sorted(counts.items()))
            terminalreporter.write_line(f"{what}: {sum(counts.values())} cases ({parts})")
    left_out = getattr(sys.modules.get("test_contract"), "left_out", ())
    if left_out:
        terminalreporter.write_line(f"contract: {len(left_out)} scenarios left out, which need user data")
