"""A shop whose users have a cart: fields of each kind that belong to the user."""

from __future__ import annotations

from typing import Any

from patience import PATIENT
from visitor import new

from coatcheck import Config, Counter, Counters, Login, Manager, Map, Session, Value
from coatcheck.tokens import DataLocator

cart, seen, theme, notes = Counters("cart"), Counter("seen"), Value("theme"), Map("notes")
FIELDS = (cart, seen, theme, notes)
SEAL: dict[str, Any] = dict(keys=(bytes(range(32)),), user_key=b"u" * 32, seal=True)


def opened(url: str, namespace: str, **options: Any) -> Manager:
    config = Config(namespace=namespace, user_fields=FIELDS, commit_timeout=60, **options)
    return Manager.open(url, config, **PATIENT)


def signed_in(shop: Manager, user: str = "ada") -> Session:
    s = new(shop)
    s.sign_in(Login(user))
    return s


def key_of(shop: Manager, user: str = "ada") -> bytes:
    """Returns the key of the user's data."""
    return shop.store.keys.record(DataLocator(shop._owner(user)))


def respond(s: Session) -> None:
    """Commits as a middleware does."""
    s.run(s.core.before_header())
