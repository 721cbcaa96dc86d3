"""A dict over the fields of a session, for frameworks whose sessions are dicts.

It has the values that are JSON. Entries of maps (`field:key`) are not in it, and stay. `write`
finds what the request changed, also in a list or dict that was changed in place. So two requests
that change different keys do not overwrite each other.
"""

from __future__ import annotations

from typing import Any

from .core import Core
from .errors import Decode
from .fields import decode_json, encode_json, to_json
from .view import Op

_SCALARS = frozenset((str, int, float, bool, type(None)))
_CHANGEABLE = object()

# What a request was shown of each key: the JSON, and the value if it cannot change in place.
Shown = dict[str, tuple[bytes, Any]]


def read(core: Core) -> tuple[dict[str, Any], Shown]:
    """Returns the values of a session that was loaded, for the request to change. Raises Sealed."""
    values: dict[str, Any] = {}
    shown: Shown = {}
    for name, text in core.view.fields.items():
        if ":" in name:
            continue
        if text[:1] == b"~":
            text = core.get(name) or b""
        try:
            value = decode_json(name, text)
        except Decode:
            continue  # another program's: it is not shown, and stays
        values[name] = value
        shown[name] = _shown(text, value)
    return values, shown


def write(core: Core, values: dict[Any, Any], shown: Shown) -> None:
    """Makes the changes of the request those of the session, and notes them in `shown`.

    A mistake is kept, and fails the commit.
    """
    for name, value in values.items():
        if not isinstance(name, str):
            name = str(name)
        before, original = shown.get(name) or (None, None)
        if before is not None and (
            original is value or original is _CHANGEABLE and _same(name, before, value)
        ):
            continue
        text = encode_json(name, value)
        if text == before:
            continue
        core.change(Op("set", name, text))
        shown[name] = _shown(text, value)
    for name in [n for n in shown if n not in values]:
        del shown[name]
        if core.stored(name) is not None:
            core.change(Op("unset", name))


def _shown(text: bytes, value: Any) -> tuple[bytes, Any]:
    return text, value if type(value) in _SCALARS else _CHANGEABLE


def _same(name: str, text: bytes, value: Any) -> bool:
    """Reports whether a JSON, which another program may have written, is that of a value."""
    try:
        now = to_json(value)
        return now == text or now == to_json(decode_json(name, text))
    except (TypeError, ValueError, RecursionError):
        return False
