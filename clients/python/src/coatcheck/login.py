"""What an application says about a sign-in, and what a session says about itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

from .errors import Invalid
from .record import Info, Record


@dataclass(frozen=True)
class Login:
    """What an application knows when it signs somebody in. Only `user` is needed.

    user           the application's id of the user: 1 to 256 bytes
    methods        how the user proved it, as in RFC 8176: "pwd", "otp"
    level          the assurance level reached, as the application counts: 0 to 99
    device         a label for people; user_agent and address describe the client
    remember       the lifetime in seconds of this session and of its cookie
    lifetime       a shorter lifetime for this session, in seconds
    began          time.time() when the authentication began. Default: when the request began
    authenticated  time.time() when an identity provider authenticated the user, if before
    """

    user: str | bytes
    methods: tuple[str, ...] = ()
    level: int = 0
    device: str = ""
    user_agent: str = ""
    address: str = ""
    remember: float = 0
    lifetime: float = 0
    began: float | None = None
    authenticated: float | None = None


@dataclass(frozen=True)
class SessionInfo:
    """Describes a session to people. It holds no secret. The handle is safe to log."""

    handle: str = ""
    created: datetime | None = None
    seen: datetime | None = None
    expires: datetime | None = None
    deadline: datetime | None = None
    user: str = ""
    authenticated: datetime | None = None
    methods: tuple[str, ...] = ()
    level: int = 0
    device: str = ""
    user_agent: str = ""
    address: str = ""


def _datetime(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, timezone.utc)


def user_bytes(user: str | bytes) -> bytes:
    """Returns the bytes of a user id. Raises Invalid."""
    try:
        data = user if isinstance(user, bytes) else user.encode("utf-8", "surrogateescape")
    except (UnicodeEncodeError, AttributeError):
        raise Invalid("the user is not a text") from None
    if not 1 <= len(data) <= 256:
        raise Invalid(f"a user id has 1 to 256 bytes, this one has {len(data)}")
    return data


def user_text(user: bytes) -> str:
    return user.decode("utf-8", "surrogateescape")


def info_of(handle: str, r: Record, info: Info | None, user: str = "") -> SessionInfo:
    common = dict(
        handle=handle,
        created=_datetime(r.created),
        seen=_datetime(max(r.seen, r.created)),
        expires=_datetime(r.expires),
        deadline=_datetime(r.deadline),
    )
    if r.user is None:
        return SessionInfo(**common)  # type: ignore[arg-type]
    info = info or Info()
    return SessionInfo(
        **common,  # type: ignore[arg-type]
        user=user_text(info.user) or user,
        authenticated=_datetime(r.user.authenticated),
        methods=info.methods,
        level=r.user.level,
        device=info.device,
        user_agent=info.user_agent,
        address=info.address,
    )


def cut(text: str, most: int) -> str:
    """Returns the beginning of a text: whole characters of at most so many bytes."""
    data = text.encode("utf-8", "replace")
    return data[:most].decode("utf-8", "ignore")


def ms(seconds: float) -> int:
    """Returns milliseconds."""
    return round(seconds * 1000)


def fits(text: object, most: int) -> bool:
    """Reports whether a text is Unicode and has at most so many bytes."""
    try:
        return isinstance(text, str) and len(text.encode()) <= most
    except UnicodeEncodeError:
        return False
