"""Web sessions in Redis, shared with programs in Go, Node, Java and PHP.

See README.md for the guarantees, and the modules wsgi, asgi, django and flask for frameworks.
"""

from .config import Config, Cookie
from .errors import (
    CSRF,
    Ambiguous,
    CrossOrigin,
    Decode,
    Ended,
    HeaderSent,
    Invalid,
    Limit,
    NotFound,
    NotSignedIn,
    ReplicaError,
    Revoked,
    Sealed,
    SessionError,
    TooLarge,
    TooMany,
    Unavailable,
    UnknownOutcome,
)
from .fields import Counter, Counters, Field, Map, Value
from .http import Request
from .login import Login, SessionInfo
from .manager import AsyncManager, Manager
from .session import AsyncSession, AsyncUserData, Session, UserData
from .store import Replicas

__all__ = [
    "Ambiguous",
    "AsyncManager",
    "AsyncSession",
    "AsyncUserData",
    "CSRF",
    "Config",
    "Cookie",
    "Counter",
    "Counters",
    "CrossOrigin",
    "Decode",
    "Ended",
    "Field",
    "HeaderSent",
    "Invalid",
    "Limit",
    "Login",
    "Manager",
    "Map",
    "NotFound",
    "NotSignedIn",
    "ReplicaError",
    "Replicas",
    "Request",
    "Revoked",
    "Sealed",
    "Session",
    "SessionError",
    "SessionInfo",
    "TooLarge",
    "TooMany",
    "Unavailable",
    "UnknownOutcome",
    "UserData",
    "Value",
]
