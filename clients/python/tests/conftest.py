"""Starts redis-server on a free loopback port, or uses COATCHECK_TEST_REDIS."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Callable

import pytest
import redis

from coatcheck import Config, Manager

sys.path.insert(0, str(Path(__file__).parent))

from patience import PATIENT  # noqa: E402
from shop import SEAL, opened  # noqa: E402


def free_port() -> int:
    """Returns a port below the range from which systems take ports for outgoing connections.

    So nobody takes it while the server is stopped.
    """
    while True:
        port = random.randrange(16000, 32000)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass


def await_that(what: str, condition: Callable[[], object]) -> None:
    """Returns when the condition is true. Not being true for a minute is an error."""
    deadline = time.monotonic() + 60
    while True:
        late = time.monotonic() > deadline
        if condition():
            return
        assert not late, f"it did not happen within a minute: {what}"
        time.sleep(0.01)


class PortTaken(Exception):
    """Another process took the server's port."""


class Server:
    """A redis-server of one's own."""

    def __init__(self, *options: str) -> None:
        self.dir = tempfile.mkdtemp(prefix="coatcheck-python-")
        self.options = options
        for _ in range(10):
            self.port = free_port()
            self.url = f"redis://127.0.0.1:{self.port}"
            try:
                return self.start()
            except PortTaken:
                pass
        raise PortTaken

    def start(self) -> None:
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
             "--appendonly", "no", "--dir", self.dir, *self.options],
            stdout=subprocess.DEVNULL,
        )
        try:
            await_that("the server answers", self.answers)
        except BaseException:
            self.stop()
            raise

    def answers(self) -> bool:
        """Reports whether this server answers, and not another one on its port."""
        ended = self.process.poll() is not None
        try:
            with redis.Redis(port=self.port, retry=None, **PATIENT) as client:
                return client.info("server")["process_id"] == self.process.pid
        except redis.exceptions.RedisError:
            return False
        finally:
            if ended:
                raise PortTaken

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, **PATIENT)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)

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
    m = Manager.open(url, Config(namespace=namespace, commit_timeout=60), **PATIENT)
    yield m
    m.close()


@pytest.fixture
def shop(url, namespace):
    m = opened(url, namespace)
    yield m
    m.close()


@pytest.fixture(params=["clear", "sealed"])
def any_shop(request, url, namespace):
    """A shop that seals values, and one that does not."""
    m = opened(url, namespace, **(SEAL if request.param == "sealed" else {}))
    yield m
    m.close()


def pytest_terminal_summary(terminalreporter):
    for module, what in (("test_vectors", "vectors"), ("test_contract", "contract")):
        counts = getattr(sys.modules.get(module), "counts", {})
        if counts:
            parts = ", ".join(f"{k} {n}" for k, n in sorted(counts.items()))
            terminalreporter.write_line(f"{what}: {sum(counts.values())} cases ({parts})")
