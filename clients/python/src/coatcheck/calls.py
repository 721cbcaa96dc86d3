"""What is sent to the servers: the scripts of the format, the names of keys, and simple replies."""

from __future__ import annotations

import hashlib
import importlib.resources
import re
from dataclasses import dataclass
from typing import Any, Sequence

from .tokens import DataLocator, Locator, bucket_of
from .wire import Command


@dataclass
class Script:
    """A script of the format."""

    source: bytes
    sha: str


def _load_scripts() -> dict[str, Script]:
    found = {}
    for file in (importlib.resources.files(__package__) / "lua").iterdir():
        if file.name.endswith(".lua"):
            source = file.read_bytes()
            sha = hashlib.sha1(source, usedforsecurity=False).hexdigest()
            found[file.name[:-4]] = Script(source, sha)
    return found


SCRIPTS = _load_scripts()


@dataclass
class Call:
    """A call of a script."""

    script: Script
    keys: Sequence[bytes]
    args: Sequence[bytes | str | int]

    def command(self, whole: bool) -> Command:
        head = ("EVAL", self.script.source) if whole else ("EVALSHA", self.script.sha)
        return (*head, len(self.keys), *self.keys, *self.args)


def call(name: str, keys: Sequence[bytes], *args: bytes | str | int) -> Call:
    return Call(SCRIPTS[name], keys, args)


class Keys:
    """The names of the keys in a namespace."""

    def __init__(self, namespace: str) -> None:
        if not re.fullmatch("[A-Za-z0-9._-]{1,64}", namespace):
            raise ValueError(f"namespace {namespace!r}: 1 to 64 of a-z A-Z 0-9 . _ -")
        self.namespace = namespace
        self.revoked = f"{namespace}:revoked".encode()

    def record(self, locator: Locator) -> bytes:
        """Returns the key of a session or of user data."""
        if isinstance(locator, DataLocator):
            return f"{self.namespace}:{{{locator.handle[:4]}}}:d:{locator.owner}".encode()
        return self.session(locator.handle)

    def session(self, handle: str) -> bytes:
        return f"{self.namespace}:{{{handle[:4]}}}:s:{handle[5:]}".encode()

    def marker(self, bucket: str) -> bytes:
        return f"{self.namespace}:{{{bucket}}}:w".encode()

    def revocations(self, bucket: int | str) -> bytes:
        bucket = bucket if isinstance(bucket, str) else f"{bucket:04x}"
        return f"{self.namespace}:{{{bucket}}}:n".encode()

    def index(self, owner: str) -> bytes:
        return f"{self.namespace}:{{{bucket_of(owner):04x}}}:u:{owner}".encode()


def pairs(reply: Any) -> dict[bytes, bytes]:
    """Returns a hash as RESP2 and RESP3 reply it."""
    if isinstance(reply, dict):
        return reply
    return dict(zip(reply[::2], reply[1::2]))


def scores(reply: Any) -> list[tuple[bytes, str]]:
    """Returns members and scores, the scores as integers in decimal."""
    if reply and not isinstance(reply[0], (list, tuple)):
        reply = list(zip(reply[::2], reply[1::2]))
    return [(member, f"{float(score):.0f}") for member, score in reply]


def milliseconds(reply: Sequence[bytes]) -> float:
    """Returns the reply of TIME."""
    return int(reply[0]) * 1000 + int(reply[1]) / 1000
