"""What requests and responses say about sessions: tokens, cookies, origins and caching."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Iterable, Sequence
from urllib.parse import urlsplit

from .config import Config, Cookie
from .errors import CrossOrigin, SessionError, UnknownOutcome
from .tokens import KeyRing, NotAToken, Token, parse_token

ANONYMOUS = "-anon"
_MAX_TOKENS = 4
Headers = list[tuple[str, str]]

# These belong to a body, or to a success, and not to the error that replaces it.
BODY_HEADERS = frozenset(
    "accept-ranges cache-control cdn-cache-control clear-site-data content-disposition "
    "content-encoding content-language content-length content-location content-range "
    "content-type etag expires last-modified location refresh set-cookie surrogate-control "
    "trailer".split()
)


@dataclass
class Request:
    """What the sessions need of a request."""

    method: str = "GET"
    cookies: Sequence[str] = ()  # the lines of the header Cookie
    authorization: Sequence[str] = ()
    fetch_site: str = ""  # repeated lines are joined with ","
    origin: str = ""  # the same
    host: str = ""
    websocket: bool = False


def check_origin(request: Request, trusted: Iterable[str]) -> None:
    """Raises CrossOrigin for an unsafe request that another site caused.

    A WebSocket handshake counts as unsafe: browsers let every site open one, with the cookie.
    """
    if request.method in ("GET", "HEAD", "OPTIONS") and not request.websocket:
        return
    if "," in request.fetch_site or "," in request.origin:  # no browser repeats them
        raise CrossOrigin("the header Sec-Fetch-Site or Origin is there twice")
    if request.fetch_site:
        if request.fetch_site in ("same-origin", "none") or _is_trusted(request.origin, trusted):
            return
        raise CrossOrigin(f"Sec-Fetch-Site: {request.fetch_site[:40]!r}")
    if not request.origin or _is_trusted(request.origin, trusted):
        return
    try:
        host = urlsplit(request.origin).netloc
    except ValueError:
        host = ""
    # urlsplit drops control characters. In Python 3.10 it takes a scheme that begins with a digit.
    if not request.origin.isprintable() or request.origin[0].isdigit():
        host = ""
    if not host or host != request.host:
        raise CrossOrigin(f"Origin: {request.origin[:200]!r}")


def _is_trusted(origin: str, trusted: Iterable[str]) -> bool:
    for of in trusted:
        scheme, star, domain = of.partition("://*.")  # as in Django's CSRF_TRUSTED_ORIGINS
        if origin == of or star and origin.startswith(scheme + "://") and origin.endswith("." + domain):
            return True
    return False


def is_safe(method: str) -> bool:
    """Reports whether a method is safe, that is, read-only (RFC 9110, 9.2.1)."""
    return method in ("GET", "HEAD", "OPTIONS", "TRACE")


def is_exempt(method: str, path: str, patterns: Iterable[str]) -> bool:
    """Reports whether a request matches a pattern of Config.csrf_exempt. The path is decoded.

    A pattern that ends with "/" matches all below it. A path with "." or ".." matches none: routers
    read it in different ways.
    """
    if any(part in (".", "..") for part in path.split("/")) or "//" in path:
        return False
    for pattern in patterns:
        only, _, of = pattern.rpartition(" ")
        if only in ("", method) and (path == of or of.endswith("/") and path.startswith(of)):
            return True
    return False


@dataclass
class Credentials:
    """The tokens of one request.

    A browser has two cookies: one for signed-in sessions, and one for anonymous sessions. The
    signed-in cookie comes first; if it opens no session, the anonymous one counts.
    """

    token: Token | None = None
    others: list[Token] = field(default_factory=list)
    twins: int = 0  # how many of `others` came under the same name as `token`
    in_header: bool = False
    has_cookie: bool = False
    has_anonymous: bool = False
    ambiguous: bool = False

    @property
    def in_cookie(self) -> bool:
        return (self.has_cookie or self.has_anonymous) and not self.in_header

    def add(self, token: Token) -> None:
        """Adds the token of a cookie."""
        if self.token is None:
            self.token = token
        elif not self.in_header and self._supersedes(token):
            pass
        elif token == self.token or token in self.others:
            pass
        elif self.in_header or len(self.others) == _MAX_TOKENS - 1:
            self.ambiguous = True
        else:
            self.others.append(token)

    def _supersedes(self, token: Token) -> bool:
        """Drops the older of two tokens of one session. Nobody stole it: it was left behind."""
        have = [self.token, *self.others]
        for i, t in enumerate(have):
            if t and t.same_session(token) and t.generation != token.generation:
                if t.generation < token.generation:
                    if i == 0:
                        self.token = token
                    else:
                        self.others[i - 1] = token
                return True
        return False


def credentials_of(request: Request, config: Config, ring: KeyRing) -> Credentials:
    """Takes the tokens from a request. A text that is not a token is ignored, never adopted."""
    c = Credentials()
    if config.bearer:
        for line in request.authorization:
            scheme, _, text = line.partition(" ")
            token = _parse(text.strip(), ring) if scheme.lower() == "bearer" else None
            if token and c.token is None:
                c.token, c.in_header = token, True
            elif token and token != c.token:
                c.ambiguous = True
    signed_in, anonymous = config.cookie.name, config.cookie.name + ANONYMOUS
    late: list[Token] = []
    for line in request.cookies:
        for part in line.split(";"):
            # Strip no other space: browsers see no prefix in a name that begins with one.
            name, equals, value = part.strip(" \t").partition("=")
            if not equals or name not in (signed_in, anonymous):
                continue
            if len(value) > 1 and value[0] == value[-1] == '"':
                value = value[1:-1]
            token = _parse(value, ring)
            if name == anonymous:
                c.has_anonymous = True
                if token:
                    token.anonymous = True
                if token and len(late) < _MAX_TOKENS:
                    late.append(token)
            else:
                c.has_cookie = True
                if token:
                    c.add(token)
    c.twins = len(c.others)
    first = c.token is None
    for token in late:
        c.add(token)
    if first:
        c.twins = len(c.others)
    return c


def _parse(text: str, ring: KeyRing) -> Token | None:
    try:
        return parse_token(text, ring)
    except NotAToken:
        return None


def set_cookie(c: Cookie, name: str, value: str, age: float) -> str:
    """Returns the value of Set-Cookie. An empty value deletes the cookie."""
    parts = [f"{name}={value}", f"Path={c.path}"]
    if c.domain:
        parts.append(f"Domain={c.domain.lstrip('.')}")
    if not value:
        parts += ["Expires=Thu, 01 Jan 1970 00:00:01 GMT", "Max-Age=0"]
    elif age >= 1:
        parts.append(f"Max-Age={int(age)}")
    parts.append("HttpOnly")
    if not c.insecure:
        parts.append("Secure")
    parts.append(f"SameSite={c.same_site}")
    if c.partitioned:
        parts.append("Partitioned")
    return "; ".join(parts)


def delete_everywhere(c: Cookie) -> list[str]:
    """Returns deletions in each scope that the cookies may have from an earlier configuration."""
    scopes = [c]
    scopes += [replace(s, domain="") for s in scopes if s.domain]
    scopes += [replace(s, path="/") for s in scopes if s.path != "/"]
    if not c.insecure:
        scopes += [replace(s, partitioned=not s.partitioned) for s in scopes]
    names = (c.name, c.name + ANONYMOUS)
    return [set_cookie(s, name, "", 0) for s in scopes for name in names]


@dataclass
class Additions:
    """What a session has to say in the header of a response."""

    vary: Sequence[str]
    cookies: Sequence[str] = ()
    no_store: bool = False

    def to(self, headers: Iterable[tuple[str, str]]) -> Headers:
        """Returns the lines to add to a header, from which those in `drops` were removed."""
        lines, cached = list[str](), False
        for name, value in headers:
            name = name.lower()
            if name == "vary":
                lines += [v.strip().lower() for v in value.split(",")]
            elif name == "cache-control":
                cached = True
        out = [("Vary", v) for v in self.vary if v.lower() not in lines and "*" not in lines]
        if self.drops:
            out.append(("Cache-Control", "no-store"))  # a shared cache must not keep the token
        elif not cached:
            out.append(("Cache-Control", "private, no-cache"))
        out += [("Set-Cookie", line) for line in self.cookies]
        return out

    @property
    def drops(self) -> Sequence[str]:
        """The names of the headers to remove."""
        if self.cookies or self.no_store:
            return ("Cache-Control", "CDN-Cache-Control", "Surrogate-Control")
        return ()


def merge(headers: Headers, more: Additions | None) -> Headers:
    """Adds what a session has to say to the header of a response."""
    if more is None:
        return headers
    drops = [name.lower() for name in more.drops]
    out = [(k, v) for k, v in headers if k.lower() not in drops] if drops else list(headers)
    return out + more.to(out)


def error_headers(error: Exception) -> Headers:
    """Returns the header of an error's response."""
    status = getattr(error, "status", 500)
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff")]
    if status == 503 and not isinstance(error, UnknownOutcome):
        headers.append(("Retry-After", "1"))
    if status == 401:
        headers.append(("WWW-Authenticate", 'Bearer realm="session"'))
    return headers


def error_body(error: Exception) -> bytes:
    return (getattr(error, "message", SessionError.message) + "\n").encode()
