"""A dict over the fields of a session, for frameworks whose sessions are dicts.

It has the values that are JSON. Entries of maps (`field:key`) are not in it, and stay. `changes`
finds what differs from the stored values, also in a list or dict that was changed in place. So two
requests that change different keys do not overwrite each other.
"""

from __future__ import annotations

from typing import Any

from .core import Core
from .errors import Decode
from .fields import decode_json, encode_json
from .view import Op


def read(core: Core) -> dict[str, Any]:
    """Returns the values of a session that was loaded. Raises Sealed."""
    values = {}
    for name in core.view.fields:
        if ":" in name:
            continue
        text = core.get(name)
        try:
            values[name] = decode_json(name, text or b"")
        except Decode:
            continue  # another program's: it is not shown, and stays
    return values


def write(core: Core, values: dict[Any, Any], shown: set[str]) -> None:
    """Changes the session to these values. `shown` are the names that `read` returned.

    A mistake is kept, and fails the commit.
    """
    for name, value in values.items():
        if not isinstance(name, str):
            name = str(name)
        text = encode_json(name, value)
        stored = core.get(name) if name in shown else None
        if stored is None or stored != text and decode_json(name, stored) != value:
            core.change(Op("set", name, text))
    for name in shown:
        if name not in values and core.stored(name) is not None:
            core.change(Op("unset", name))
