"""The configuration. Words and defaults are those of the Go library. Durations are in seconds."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Mapping

from .fields import Field
from .tokens import check_key

_TEN_YEARS = 10 * 365 * 24 * 3600
_MAX_COOKIE_AGE = 400 * 24 * 3600


@dataclass(frozen=True)
class Cookie:
    """The session cookie. The default is secure. HttpOnly is always set.

    `name` is the name for signed-in sessions. Anonymous sessions have this name and "-anon", so
    that an anonymous session never replaces a signed-in one. `insecure` leaves out Secure and the
    prefix "__Host-": it is only for development over plain HTTP.
    """

    name: str = ""
    path: str = "/"
    domain: str = ""
    same_site: str = "Lax"
    partitioned: bool = False
    persistent: bool = False
    insecure: bool = False


@dataclass(frozen=True)
class Config:
    """Config configures the sessions of a Manager. The default is secure."""

    namespace: str = "coatcheck"
    idle_timeout: float | None = None  # default: 2 h, or lifetime if that is shorter
    first_use_timeout: float | None = None  # default: 15 min, or idle_timeout
    lifetime: float = 24 * 3600
    rotate_every: float = 0  # 0: never; else at least a minute
    max_size: int = 65536  # bytes of all fields of a session
    commit_timeout: float = 2
    max_remember: float = 0  # 0: Login.remember is refused
    max_per_user: int = 0  # 0: no limit
    refuse_extra: bool = False  # else the user's oldest session ends
    keep_fields: tuple[str, ...] = ()  # what a sign-in keeps of an anonymous session
    user_fields: tuple[Field, ...] = ()  # what belongs to the user: see Session.user_data
    user_data_timeout: float = 90 * 24 * 3600  # without use; for data that is stored from now on
    cookie: Cookie = field(default_factory=Cookie)
    bearer: bool = False  # also accept "Authorization: Bearer"
    keys: tuple[bytes, ...] = field(default=(), repr=False)
    unsigned_until: float = 0  # time.time(); until then unsigned tokens are accepted
    user_key: bytes | None = field(default=None, repr=False)
    seal: bool = False
    csrf: bool = False  # unsafe requests of a session need a CSRF token: see README.md
    csrf_exempt: tuple[str, ...] = ()  # "POST /webhook", "/hooks/": routes that need none
    trusted_origins: tuple[str, ...] = ()  # "scheme://host[:port]" of other sites
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger("coatcheck"))

    @cached_property
    def user_fields_by_name(self) -> Mapping[str, Field]:
        return {f.name: f for f in self.user_fields}

    def checked(self) -> Config:
        """Returns the Config with its defaults. Raises ValueError, which names the field."""
        idle = self.idle_timeout
        if idle is None:
            idle = min(2 * 3600, self.lifetime)
        first = self.first_use_timeout
        if first is None:
            first = min(15 * 60, idle)
        c = replace(
            self,
            idle_timeout=idle,
            first_use_timeout=first,
            keys=tuple(self.keys),
            keep_fields=tuple(self.keep_fields),
            user_fields=tuple(self.user_fields),
            trusted_origins=tuple(self.trusted_origins),
            csrf_exempt=tuple(self.csrf_exempt),
            cookie=_check_cookie(self.cookie),
        )
        for name in ("lifetime", "idle_timeout", "first_use_timeout", "commit_timeout", "user_data_timeout"):
            if getattr(c, name) < 0.001:
                raise ValueError(f"Config.{name}: at least 1 ms")
        if c.lifetime > _TEN_YEARS:
            raise ValueError("Config.lifetime: at most 10 years, so that every session ends")
        if c.user_data_timeout > _TEN_YEARS:
            raise ValueError("Config.user_data_timeout: at most 10 years")
        if idle > c.lifetime:
            raise ValueError("Config.idle_timeout is longer than lifetime")
        if first > idle:
            raise ValueError("Config.first_use_timeout is longer than idle_timeout")
        if c.rotate_every and not 60 <= c.rotate_every <= c.lifetime:
            raise ValueError("Config.rotate_every: 60 s to lifetime, or 0")
        if not 1 <= c.max_size <= 16 << 20:
            raise ValueError("Config.max_size: 1 byte to 16 MiB")
        if c.max_remember and not c.lifetime <= c.max_remember <= _MAX_COOKIE_AGE:
            raise ValueError("Config.max_remember: lifetime to 400 days, or 0")
        if not 0 <= c.max_per_user <= 100:
            raise ValueError("Config.max_per_user: 1 to 100, or 0")
        if c.refuse_extra and not c.max_per_user:
            raise ValueError("Config.refuse_extra requires max_per_user")
        if c.cookie.persistent and c.lifetime > _MAX_COOKIE_AGE:
            raise ValueError("Config.lifetime: a persistent cookie lives at most 400 days")
        _check_lists(c)
        for key in c.keys:
            check_key(key, "keys")
        if c.user_key is not None:
            check_key(c.user_key, "user_key")
        if c.seal and not (c.keys and c.user_key):
            raise ValueError("Config.seal requires keys and user_key")
        if c.seal:
            import importlib.util

            if importlib.util.find_spec("cryptography") is None:
                raise ValueError("Config.seal requires: pip install coatcheck-session[seal]")
        if c.unsigned_until and not c.keys:
            raise ValueError("Config.unsigned_until requires keys")
        return c


def _check_lists(c: Config) -> None:
    for name in c.keep_fields:
        if not re.fullmatch("[A-Za-z0-9._-]{1,64}", name):
            raise ValueError(f"Config.keep_fields: {name!r} is not a field's name")
    for of in c.user_fields:
        if not isinstance(of, Field):
            raise ValueError(f"Config.user_fields: {of!r} is not a Value, Map, Counter or Counters")
    for pattern in c.csrf_exempt:
        if not re.fullmatch(r"([A-Z]+ )?/\S*", pattern):
            raise ValueError(f"Config.csrf_exempt: {pattern!r}: write \"POST /path\", or \"/path/\"")


def _check_cookie(c: Cookie) -> Cookie:
    name = c.name or ("session" if c.insecure else "__Host-session")
    lower = name.lower()
    secure = lower.startswith(("__host-", "__secure-", "__http-"))
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,200}", name):
        raise ValueError(f"Cookie.name {name!r} is not a cookie's name")
    if secure and c.insecure:
        raise ValueError("Cookie.insecure: browsers ignore a name with this prefix without Secure")
    if not secure and not c.insecure:
        raise ValueError('Cookie.name: without "__Host-" or "__Secure-" others can plant the cookie')
    if lower.startswith("__host-") and (c.domain or c.path != "/"):
        raise ValueError('Cookie: "__Host-" allows no domain, and only the path "/"')
    if not re.fullmatch(r"/[\x20-\x3a\x3c-\x7e]{0,1023}", c.path):
        raise ValueError(f"Cookie.path {c.path!r}")
    if c.domain and not re.fullmatch(r"\.?[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", c.domain):
        raise ValueError(f"Cookie.domain {c.domain!r}")
    if c.same_site not in ("Lax", "Strict", "None"):
        raise ValueError("Cookie.same_site: Lax, Strict or None")
    if c.insecure and (c.same_site == "None" or c.partitioned):
        raise ValueError("Cookie: browsers ignore SameSite=None and Partitioned without Secure")
    if c.partitioned and c.same_site != "None":
        raise ValueError("Cookie.partitioned requires same_site None")
    return replace(c, name=name)
