"""Tokens, the key ring, sealed values, CSRF tokens and the names of users.

This module does no input or output. format/README.md has the specification.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import os
import re
import struct
import time
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from .errors import CSRF, Invalid, Sealed

# re.fullmatch is used everywhere: "$" also matches before a line break. The patterns are for bytes
# or name the digits: "\d" in a pattern for str matches digits of all scripts.
_BASE64 = re.compile(rb"[A-Za-z0-9_-]*")
_TO_URL, _FROM_URL = bytes.maketrans(b"+/", b"-_"), bytes.maketrans(b"-_", b"+/")

ZERO_HASH = "A" * 22
_VERSION = 1
_MAC_BYTES = 18


def b64encode(data: bytes) -> str:
    """Returns base64url without padding."""
    text = binascii.b2a_base64(data, newline=False).rstrip(b"=").translate(_TO_URL)
    return text.decode("ascii")


def b64decode(text: str | bytes) -> bytes | None:
    """Returns the bytes of a base64url text without padding, or None if it has another form.

    The decoder of the standard library skips other characters and ignores unused bits.
    """
    if isinstance(text, str):
        try:
            text = text.encode("ascii")
        except UnicodeEncodeError:
            return None
    if len(text) % 4 == 1 or not _BASE64.fullmatch(text):
        return None
    data = binascii.a2b_base64(text.translate(_FROM_URL) + b"=" * (-len(text) % 4))
    if len(text) % 4 and b64encode(data).encode("ascii") != text:  # unused bits that are not zero
        return None
    return data


def hash_of(data: bytes) -> str:
    """Returns the hash of a selector or verifier: 22 characters."""
    return b64encode(hashlib.sha256(data).digest()[:16])


def random_hash() -> str:
    """Returns 128 random bits in the form of a hash."""
    return b64encode(os.urandom(16))


def _extract(key: bytes) -> bytes:
    return hmac.digest(bytes(32), key, "sha256")


def _expand(master: bytes, info: bytes, length: int) -> bytes:
    return hmac.digest(master, info + b"\x01", "sha256")[:length]


def _hkdf(key: bytes, info: bytes, length: int) -> bytes:
    return _expand(_extract(key), info, length)


_TOKEN = struct.Struct(">BH16sI16s")


@dataclass
class Token:
    """A credential for one session. It does not change."""

    bucket: int
    selector: bytes
    generation: int
    verifier: bytes
    # It came in the cookie of anonymous sessions, or was issued for it.
    anonymous: bool = field(default=False, compare=False)
    _handle: str = field(default="", init=False, repr=False, compare=False)
    _verifier_hash: str = field(default="", init=False, repr=False, compare=False)

    @staticmethod
    def new(bucket: int | None = None) -> Token:
        """Returns a random token for a new session. A user session has its user's bucket."""
        if bucket is None:
            bucket = int.from_bytes(os.urandom(2), "big")
        return Token(bucket, os.urandom(16), 0, os.urandom(16))

    def renewed(self, generation: int) -> Token:
        """Returns a token of the same session with a new verifier."""
        return Token(self.bucket, self.selector, generation, os.urandom(16), self.anonymous)

    @property
    def handle(self) -> str:
        if not self._handle:
            self._handle = f"{self.bucket:04x}-{hash_of(self.selector)}"
        return self._handle

    @property
    def verifier_hash(self) -> str:
        if not self._verifier_hash:
            self._verifier_hash = hash_of(self.verifier)
        return self._verifier_hash

    def same_session(self, other: Token) -> bool:
        return self.bucket == other.bucket and self.selector == other.selector

    def text(self, ring: KeyRing) -> str:
        """Returns the token as it is sent: signed if the ring has keys."""
        data = _TOKEN.pack(
            _VERSION, self.bucket, self.selector, self.generation, self.verifier
        )
        return b64encode(data + ring.mac(data))


@dataclass(frozen=True)
class DataLocator:
    """Names the data of a user in the store, as a Token names a session. It opens nothing."""

    owner: str

    @property
    def handle(self) -> str:
        return f"{bucket_of(self.owner):04x}-{self.owner}"

    @property
    def verifier_hash(self) -> str:
        return self.owner


Locator = Token | DataLocator


class NotAToken(ValueError):
    """The text is not a token of this program. `forged` says that only its MAC is wrong."""

    def __init__(self, why: str, forged: bool = False) -> None:
        super().__init__(why)
        self.forged = forged


def parse_token(text: str, ring: KeyRing) -> Token:
    """Reads a token. Raises NotAToken."""
    if len(text) not in (52, 76):
        raise NotAToken(f"{len(text)} characters")
    data = b64decode(text)
    if data is None:
        raise NotAToken("not base64url")
    if data[0] != _VERSION:
        raise NotAToken(f"version {data[0]}")
    if not ring.accepts(data[:39], data[39:]):
        raise NotAToken("its signature is wrong or missing", forged=True)
    _, bucket, selector, generation, verifier = _TOKEN.unpack(data[:39])
    return Token(bucket, selector, generation, verifier)


def check_key(key: bytes, name: str) -> bytes:
    if not isinstance(key, bytes) or len(key) != 32 or not any(key):
        raise ValueError(f"Config.{name}: a key has 32 random bytes")
    return key


def _aesgcm() -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as err:
        raise Sealed(
            "sealed values need the package cryptography: install coatcheck-session[seal]"
        ) from err
    return AESGCM


class KeyRing:
    """The keys of a Config. The first key signs and seals; every key verifies and opens."""

    def __init__(
        self, keys: tuple[bytes, ...] = (), unsigned_until: float = 0
    ) -> None:
        self._unsigned_until = unsigned_until
        masters = [_extract(key) for key in keys]
        self._macs = [_expand(m, b"coatcheck/1 token", 32) for m in masters]
        self._seals = [
            (m, "~1" + b64encode(_expand(m, b"coatcheck/1 seal id", 3)))
            for m in masters
        ]
        self._events = [_expand(m, b"coatcheck/1 event", 32) for m in masters]

    def mac(self, data: bytes) -> bytes:
        if not self._macs:
            return b""
        return hmac.digest(self._macs[0], data, "sha256")[:_MAC_BYTES]

    def accepts(self, data: bytes, mac: bytes) -> bool:
        if not self._macs:
            return True
        if not mac:
            return time.time() < self._unsigned_until
        valid = False
        for key in self._macs:
            want = hmac.digest(key, data, "sha256")[:_MAC_BYTES]
            valid |= hmac.compare_digest(want, mac)
        return valid

    # Sealed values. `session` is the session's id: 16 bytes.

    def _cipher(self, master: bytes, session: bytes) -> Any:
        info = b"coatcheck/1 seal " + b64encode(session).encode("ascii")
        return _aesgcm()(_expand(master, info, 32))

    def seal(
        self, session: bytes, name: str, value: bytes, nonce: bytes | None = None
    ) -> bytes:
        """Returns the sealed form of a value. The nonce is for test vectors only."""
        master, prefix = self._seals[0]
        nonce = nonce or os.urandom(12)
        box = self._cipher(master, session).encrypt(
            nonce, value, session + name.encode()
        )
        return (prefix + b64encode(nonce + box)).encode("ascii")

    def can_open(self, name: str, value: bytes) -> None:
        """Raises Sealed if a sealed value names no key of the ring. It does not decrypt."""
        if not value.startswith(b"~"):
            return
        if not any(value.startswith(p.encode()) for _, p in self._seals):
            raise Sealed(f"{name!r}: Config.keys lacks its key: {value[:6]!r}")

    def open(self, session: bytes, name: str, value: bytes) -> bytes:
        """Returns the value of a stored form. A value in clear is returned as it is."""
        if not value.startswith(b"~"):
            return value
        self.can_open(name, value)
        for master, prefix in self._seals:
            box = b64decode(value[len(prefix) :])
            if not value.startswith(prefix.encode()) or box is None or len(box) < 28:
                continue
            cipher = self._cipher(master, session)
            try:
                plain: bytes = cipher.decrypt(
                    box[:12], box[12:], session + name.encode()
                )
                return plain
            except Exception as err:
                if type(err).__name__ != "InvalidTag":
                    raise
        raise Sealed(f"{name!r} was altered in the store or moved from another place")

    def reseal(self, before: bytes, after: bytes, name: str, value: bytes) -> bytes:
        """Returns a stored value for the session with another id. One in clear stays in clear."""
        return self.seal(after, name, self.open(before, name, value)) if value[:1] == b"~" else value

    def open_event(self, entry: bytes) -> bytes | None:
        """Returns the JSON of an event of the feed, or None if it must be rejected."""
        if len(entry) > 4096:
            return None
        if not self._events:
            return None if entry.startswith(b"\x01") else entry
        if not entry.startswith(b"\x01") or len(entry) < 29:
            return None
        for key in self._events:
            try:
                plain: bytes = _aesgcm()(key).decrypt(entry[1:13], entry[13:], None)
                return plain
            except Exception as err:
                if type(err).__name__ != "InvalidTag":
                    raise
        return None


@lru_cache(maxsize=16)
def _owner_key(user_key: bytes) -> bytes:
    return _hkdf(user_key, b"coatcheck/1 user", 32)


def owner_of(user_key: bytes | None, user: bytes) -> str:
    """Returns the owner: the keyed hash that names a user in the store."""
    key = _owner_key(user_key or bytes(32))
    return b64encode(hmac.digest(key, user, "sha256")[:16])


def bucket_of(owner: str) -> int:
    """Returns the bucket of all sessions of a user."""
    return int.from_bytes((b64decode(owner) or b"")[:2], "big")


def parse_handle(handle: str) -> str:
    """Returns a valid handle. Raises Invalid."""
    if not isinstance(handle, str) or not re.fullmatch(
        "[0-9a-f]{4}-[A-Za-z0-9_-]{21}[AQgw]", handle
    ):
        raise Invalid(f"{str(handle)[:40]!r} is not a session's handle")
    return handle


def csrf_token(session: bytes, pad: bytes | None = None) -> str:
    """Returns a CSRF token of the session with this id. The pad is for test vectors only."""
    key, pad = _hkdf(session, b"coatcheck/1 csrf", 18), pad or os.urandom(18)
    return b64encode(pad + bytes(a ^ b for a, b in zip(pad, key)))


def check_csrf(session: bytes, token: str) -> None:
    """Raises CSRF if the token is not one of the session."""
    data = b64decode(token) if len(token) == 48 else None
    if data is None:
        raise CSRF("not a CSRF token")
    key = bytes(a ^ b for a, b in zip(data[:18], data[18:]))
    if not hmac.compare_digest(key, _hkdf(session, b"coatcheck/1 csrf", 18)):
        raise CSRF("the CSRF token is of another session")
