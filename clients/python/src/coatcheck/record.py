"""Records: how a session is stored, and what a reader finds in the store.

This module does no input or output. format/README.md has the specification.
"""

from __future__ import annotations

import hmac
import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Mapping

from .errors import Unavailable
from .tokens import ZERO_HASH, b64decode, b64encode

MAX_TIME = 253402300799999
MAX_DURATION = 9223372036854
REMEMBERED_MS = 60000  # how long markers and superseded verifiers are remembered
MAX_INFO = 12288

_HASH = "[A-Za-z0-9_-]{21}[AQgw]"
_TIME = "[0-9a-f]{12}"
_STATE = re.compile(f"(.)([0-9a-f])({_HASH})({_TIME})([0-9a-f]{{8}})({_TIME})")
_LIFE = re.compile(f"({_HASH})({_TIME})({_TIME})({_TIME})")
_PREVIOUS = re.compile(f"([ar])({_HASH})({_TIME})([0-9a-f]{{8}})({_TIME})")
_OVERTAKEN = re.compile(f"([0-9a-f]{{8}})({_HASH})")
_USER = re.compile(f"({_HASH})({_TIME})([0-9a-f]{{2}})([01])([0-9a-f]{{4}})")
_MOVING = re.compile(f"({_HASH})({_TIME})")
_ENDED = re.compile(f"({_TIME})({_HASH})")
_INFO_PART = re.compile("@i([2-9]|[1-9][0-9]{1,2})?")
_NAME = re.compile(b"[A-Za-z0-9._-]{1,64}(?::.{0,256})?", re.DOTALL)


class Malformed(Unavailable):
    """A stored value is not valid, or has an unknown version. Nothing was written."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"malformed record: {name!r}: {why}")
        self.name = name


def check_name(name: str) -> bool:
    """Reports whether a name is that of a field or of an entry `field:key`."""
    try:
        return _NAME.fullmatch(name.encode()) is not None
    except UnicodeEncodeError:  # a lone surrogate
        return False


def touch_interval(idle: int) -> float:
    """How much a use must prolong a session to be written, in milliseconds."""
    return min(idle / 20, 60000)


@dataclass(frozen=True)
class User:
    """Who is signed in, as the record has it. `info` is JSON, or sealed."""

    owner: str
    authenticated: int
    level: int
    persistent: bool
    info: bytes


@dataclass(frozen=True)
class Info:
    """What a sign-in recorded in words."""

    user: bytes = b""
    methods: tuple[str, ...] = ()
    device: str = ""
    user_agent: str = ""
    address: str = ""

    def encode(self) -> bytes:
        members = {
            "user": b64encode(self.user),
            "methods": list(self.methods),
            "device": self.device,
            "agent": self.user_agent,
            "address": self.address,
        }
        text = json.dumps({k: v for k, v in members.items() if v}, separators=(",", ":"))
        return text.encode("ascii")


@dataclass(frozen=True)
class Previous:
    """What is known of the verifier before the current one."""

    accepted: bool
    verifier: str
    time: int
    generation: int
    issued: int


@dataclass
class Record:
    """A session as it is stored. Times are in milliseconds by the server's clock."""

    secret: str
    verifier: str
    unused: bool
    revision: int
    size: int
    seen: int
    created: int
    deadline: int
    idle: int
    previous: Previous | None = None
    overtaken: tuple[int, str] | None = None
    moving: str | None = None
    user: User | None = None
    fields: dict[str, bytes] = field(default_factory=dict)

    @cached_property
    def id(self) -> bytes:
        """The 16 bytes that values are sealed for, and CSRF tokens are made of."""
        return b64decode(self.secret) or b""

    @property
    def generation(self) -> int:
        return self.previous.generation if self.previous else 0

    @property
    def issued(self) -> int:
        return self.previous.issued if self.previous else self.created

    @property
    def expires(self) -> int:
        return min(self.seen + self.idle, self.deadline)

    def status(self, verifier: str, now: float) -> str:
        """Returns "current", "grace", "superseded" or "unknown"."""
        p = self.previous
        if hmac.compare_digest(verifier, self.verifier):
            return "current"
        if p is None or not hmac.compare_digest(verifier, p.verifier):
            return "unknown"
        if p.accepted and (self.unused or now < p.time):
            return "grace"
        if not p.accepted and now < p.time:
            return "superseded"
        return "unknown"

    def touch_due(self, verifier: str | None, now: float) -> bool:
        """Reports whether a use must be written. Pass None for a verifier issued by the request."""
        extended = min(now + self.idle, self.deadline)
        if extended - self.expires > touch_interval(self.idle):
            return True
        return self.unused and verifier == self.verifier


@dataclass(frozen=True)
class Marker:
    """What a key holds for a minute after its session ended or moved."""

    moved: bool
    time: int


def _time(name: str, digits: str, most: int = MAX_TIME) -> int:
    n = int(digits, 16)
    if n > most:
        raise Malformed(name, "out of range")
    return n


def _match(pattern: re.Pattern[str], name: str, value: bytes | None) -> tuple[str, ...]:
    if value is None:
        raise Malformed(name, "missing")
    m = pattern.fullmatch(value.decode("latin-1"))
    if not m:
        raise Malformed(name, "another form")
    return m.groups()


def decode(stored: Mapping[bytes, bytes]) -> Record | Marker | None:
    """Returns the record or the marker in a hash, or None for no hash. Raises Malformed."""
    if not stored:
        return None
    meta: dict[str, bytes] = {}
    fields: dict[str, bytes] = {}
    size = 0
    for raw, value in stored.items():
        try:
            name = raw.decode()
        except UnicodeDecodeError:
            raise Malformed(repr(raw), "not UTF-8") from None
        if _NAME.fullmatch(raw):
            fields[name] = value
            size += len(raw) + len(value)
        elif name[:1] == "@":
            meta[name] = value
        else:
            raise Malformed(name, "not the name of a field")
    for name in ("@ended", "@moved"):
        if name in meta:
            return _marker(name, meta, stored)
    return _record(meta, fields, size)


def user_data(found: Record | Marker | None, owner: str, now: float) -> Record | None:
    """Returns what a key of user data holds, None if there is none. Raises Malformed."""
    if found is None:
        return None
    if isinstance(found, Marker) or found.user or found.previous or found.moving:
        raise Malformed(owner, "a session or a marker in the place of user data")
    if not hmac.compare_digest(found.verifier, owner):
        raise Malformed("@s", "its verifier is not the owner of the user data")
    return found if now < found.expires else None


def _marker(name: str, meta: dict[str, bytes], stored: Mapping[bytes, bytes]) -> Marker:
    if len(stored) > 1:
        raise Malformed(name, "a marker has no other name beside it")
    if name == "@moved":
        if not re.fullmatch(_TIME, meta[name].decode("latin-1")):
            raise Malformed(name, "another form")
        return Marker(True, _time(name, meta[name].decode()))
    at, _ = _match(_ENDED, name, meta[name])
    return Marker(False, _time(name, at))


def _record(meta: dict[str, bytes], fields: dict[str, bytes], size: int) -> Record:
    state = meta.get("@s")
    if state is not None and state[:1] not in (b"", b"1"):
        raise Malformed("@s", f"version {state[:1]!r}: a newer program wrote it")
    _, flags, verifier, revision, size_text, seen = _match(_STATE, "@s", state)
    if flags not in "0123":
        raise Malformed("@s", "unknown flags")
    id_text, created, deadline, idle = _match(_LIFE, "@l", meta.get("@l"))
    unused, leaving = int(flags) & 1 == 1, int(flags) & 2 == 2

    previous = overtaken = moving = user = None
    if "@previous" in meta:
        kind, before, at, generation, issued = _match(_PREVIOUS, "@previous", meta["@previous"])
        if before == ZERO_HASH:
            raise Malformed("@previous", "the zero hash")
        pending = kind == "a" and unused
        previous = Previous(
            kind == "a",
            before,
            _time("@previous", at, MAX_DURATION if pending else MAX_TIME),
            int(generation, 16),
            _time("@previous", issued),
        )
    elif unused:
        raise Malformed("@previous", "missing, although flag 1 is set")
    if "@overtaken" in meta:
        generation, used = _match(_OVERTAKEN, "@overtaken", meta["@overtaken"])
        overtaken = (int(generation, 16), used)
    if "@moving" in meta:
        moving, until = _match(_MOVING, "@moving", meta["@moving"])
        _time("@moving", until)
        if not leaving:
            raise Malformed("@moving", "present without flag 2")
    elif leaving:
        raise Malformed("@moving", "missing, although flag 2 is set")
    if "@u" in meta:
        user = _user(meta)
    elif any(name.startswith("@i") for name in meta):
        raise Malformed("@i", "there is no @u")
    for name in meta:
        if name not in _KNOWN and not (user and _INFO_PART.fullmatch(name)):
            raise Malformed(name, "unknown metadata")
    if int(size_text, 16) != size:
        raise Malformed("@s", "its size is not that of the fields")
    return Record(
        secret=id_text,
        verifier=verifier,
        unused=unused,
        revision=int(revision, 16),
        size=size,
        seen=_time("@s", seen),
        created=_time("@l", created),
        deadline=_time("@l", deadline),
        idle=_time("@l", idle, MAX_DURATION),
        previous=previous,
        overtaken=overtaken,
        moving=moving,
        user=user,
        fields=fields,
    )


_KNOWN = {"@s", "@l", "@previous", "@overtaken", "@u", "@moving"}


def _part(i: int) -> str:
    return "@i" if i == 0 else f"@i{i + 1}"


def info_names(size: int) -> list[str]:
    """Returns the names of the parts of an info of so many bytes."""
    return [_part(i) for i in range((size + 63) // 64)]


def info_parts(info: bytes) -> list[tuple[str, bytes]]:
    """Cuts an info into the parts that are stored."""
    return [(_part(i), info[i * 64 : i * 64 + 64]) for i in range((len(info) + 63) // 64)]


def parse_user(value: bytes | None) -> tuple[User, int]:
    """Returns a user without the info, and the bytes of the info. Raises Malformed."""
    owner, at, level, persistent, length = _match(_USER, "@u", value)
    size = int(length, 16)
    if int(level, 16) > 99 or not 1 <= size <= MAX_INFO:
        raise Malformed("@u", "out of range")
    return User(owner, _time("@u", at), int(level, 16), persistent == "1", b""), size


def _user(meta: dict[str, bytes]) -> User:
    user, size = parse_user(meta["@u"])
    names = info_names(size)
    for name in meta:
        if name.startswith("@i") and name not in names:
            raise Malformed(name, "not a part of the info")
    info = b""
    for i, name in enumerate(names):
        part = meta.get(name)
        if part is None or len(part) != min(64, size - 64 * i):
            raise Malformed(name, "another length")
        info += part
    if not info.startswith(b"~"):
        decode_info(info)
    return User(user.owner, user.authenticated, user.level, user.persistent, info)


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member twice")
    return members


def decode_info(text: bytes) -> Info:
    """Returns the info of a JSON text. Raises Malformed, also for an unknown member."""
    try:
        members = json.loads(text.decode(), object_pairs_hook=_pairs)
        if not isinstance(members, dict):
            raise ValueError("not an object")
        user = b64decode(str(members.pop("user", "")))
        methods = members.pop("methods", None) or []
        texts = [members.pop(name, None) or "" for name in ("device", "agent", "address")]
        if members:
            raise ValueError(f"unknown member {next(iter(members))!r}")
        if not isinstance(methods, list) or len(methods) > 16:
            raise ValueError("methods")
        if not user or len(user) > 256:
            raise ValueError("user")
        for value, most in [*zip(texts, (128, 512, 64)), *((m, 32) for m in methods)]:
            if not isinstance(value, str) or len(value.encode()) > most:
                raise ValueError("a text is too long, or is no text")
    except (ValueError, RecursionError) as err:  # UnicodeError is a ValueError
        raise Malformed("@i", str(err)) from None
    return Info(user, tuple(methods), *texts)


def parse_revoked(stored: bytes | None) -> int:
    """Returns the time of the last revocation of everybody, 0 for never. Raises Malformed."""
    if stored is None:
        return 0
    if not re.fullmatch(_TIME.encode(), stored):
        raise Malformed("revoked", "another form")
    return _time("revoked", stored.decode())


def revoked_at(
    revocations: Mapping[bytes, bytes], owner: str, name: str, created: int
) -> int | None:
    """Returns when a revocation of its user ended a session, or None. Raises Malformed."""
    text = revocations.get(owner.encode())
    if text is None:
        return None
    if len(text) % 34 != 24 or not re.fullmatch(_TIME.encode(), text[:12]):
        raise Malformed(owner, "a revocation of another form")
    since = _time(owner, text[:12].decode())
    kept = {text[i : i + 22] for i in range(24, len(text), 34)}
    return since if created <= since and name.encode() not in kept else None


@dataclass
class Finding:
    """What a reader must decide: see "Reading" in format/README.md."""

    outcome: str
    record: Record | None = None


def decide(
    found: Record | Marker | None,
    revocations: Mapping[bytes, bytes],
    revoked: int,
    name: str,
    verifier: str,
    generation: int,
    now: float,
    began: float,
    began_early: float | None = None,
) -> Finding:
    """Decides about a token. `name` is the hash of the selector. Raises Malformed.

    `began` is when the request began, by the server's clock; `began_early` is the earliest time
    that it can be, if the estimate is not exact.
    """
    began_early = began if began_early is None else began_early
    user_end = None
    if isinstance(found, Record) and found.user:
        user_end = revoked_at(revocations, found.user.owner, name, found.created)
    none = "none" if now - began < REMEMBERED_MS else "superseded"

    end: int | None = None
    if isinstance(found, Marker):
        if found.moved:
            return Finding("moved")
        end = found.time
    elif found is None:
        end = revoked or None
    elif now >= found.expires:
        pass
    elif found.created <= revoked:
        end = revoked
    else:
        end = user_end
    if end is not None:
        if now - end >= REMEMBERED_MS:
            return Finding(none)
        return Finding("ended during the request" if began < end else "ended before the request")
    if found is None or isinstance(found, Marker) or now >= found.expires:
        return Finding(none)

    status = found.status(verifier, now)
    if status != "unknown":
        return Finding(status, found)
    return Finding(_judge(found, verifier, generation, began_early), found)


def _judge(r: Record, verifier: str, generation: int, began: float) -> str:
    """Decides about a verifier that is not known: "unknown", "superseded" or "theft"."""
    if generation >= r.generation:
        return "unknown"
    p = r.previous
    overlaps = began < r.issued or (
        p is not None and (verifier == p.verifier or not p.accepted) and began < _until(r, p)
    )
    if overlaps:
        return "superseded"
    if r.unused and generation + 1 == r.generation:
        return "unknown"
    if r.overtaken and r.overtaken[0] == generation and r.overtaken[1] != verifier:
        return "unknown"
    return "theft"


def _until(r: Record, p: Previous) -> float:
    # While a rotation is pending, the stored number is a duration.
    return 0 if p.accepted and r.unused else p.time
