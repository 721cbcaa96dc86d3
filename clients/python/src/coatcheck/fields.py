"""The kinds of field: Value, Counter, Counters and Map. Declare each field once.

    theme = Value("theme", str)
    visits = Counter("visits")

Get, set, add and delete never wait for the store: the request commits its changes in one step. A
mistake is kept, and fails the commit. `take`, `update`, `add_within` and `set_within` talk to the
store, so an AsyncSession or AsyncUserData awaits them.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Awaitable, Callable, Generic, TypeVar, overload

from .errors import Decode, Invalid, Sealed
from .record import check_name
from .view import MAX_INT, MIN_INT, Op, parse_integer
from .wire import Flow

if TYPE_CHECKING:
    from .session import AsyncFields, BaseFields, SyncFields

T = TypeVar("T")
D = TypeVar("D")
_MOST_DEPTH = 100


def _refuse(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number is too large")
    return number


# json.dumps and json.loads would make these objects in each call.
_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
# json.loads also reads NaN and Infinity, and guesses the encoding of bytes.
_decoder = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)


def decode_json(name: str, text: bytes) -> Any:
    """Returns the value of a JSON text. Raises Decode."""
    try:
        chars = text.decode()
        try:
            value, end = _decoder.scan_once(chars, 0)  # type: ignore[attr-defined]
        except StopIteration:
            end = -1
        if end != len(chars):  # white space around it, or a mistake
            value = _decoder.decode(chars)
        if b"\\u" in text:
            _check_text(value)
    except (ValueError, RecursionError) as err:
        raise Decode(f"field {name!r}: {err}") from None
    return value


def to_json(value: Any) -> bytes:
    """Returns a value as JSON. Raises TypeError, or ValueError also for lone surrogates."""
    return _encoder.encode(value).encode()


def _check_text(value: Any) -> None:
    """Raises ValueError for a lone surrogate, which \\uD800 in a JSON text makes."""
    to_json(value)


def encode_json(name: str, value: Any) -> bytes:
    """Returns a value as JSON. Raises Invalid for what other languages would read differently."""
    try:
        _check(value, 0)
        return to_json(value)
    except (ValueError, TypeError) as err:
        raise Invalid(f"field {name!r}: {err}") from None


def _check(value: Any, depth: int) -> None:
    if value is None or isinstance(value, (str, bool, float)):
        return
    if isinstance(value, int):
        if not MIN_INT <= value <= MAX_INT:
            raise ValueError("an integer beyond 64 bits: store it as text")
        return
    if depth > _MOST_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(value, dict):
        for key, member in value.items():
            if not isinstance(key, str):  # json.dumps would make a text of it
                raise TypeError(f"the key {key!r} of an object is not a text")
            _check(member, depth + 1)
    elif isinstance(value, (list, tuple)):
        for member in value:
            _check(member, depth + 1)
    else:
        raise TypeError(f"{type(value).__name__} is not a JSON type")


def _check_field(name: str) -> str:
    if not check_name(name) or ":" in name:
        raise Invalid(f"{name!r} is not a field's name: 1 to 64 of a-z A-Z 0-9 . _ -")
    return name


class Field:
    """A Value, a Map, a Counter or Counters."""

    counts = False  # its values are counts, which add up

    def __init__(self, name: str) -> None:
        self.name = _check_field(name)


class _Typed(Field, Generic[T]):
    """A field with JSON values of one type."""

    def __init__(self, name: str, of: type[T] | None = None) -> None:
        super().__init__(name)
        self._type = of

    def _decode(self, name: str, text: bytes) -> T:
        value = decode_json(name, text)
        of: Any = self._type
        if of is None:
            return value  # type: ignore[no-any-return]
        if of is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)  # type: ignore[return-value]
        # bool is a subclass of int, and 1.0 is no int.
        if not isinstance(value, of) or isinstance(value, bool) and of is not bool:
            raise Decode(f"field {name!r} has a {type(value).__name__}, not a {of.__name__}")
        return value  # type: ignore[no-any-return]

    def _lookup(self, s: BaseFields, name: str) -> tuple[T | None, bool]:
        text = s.core.get(name)
        return (None, False) if text is None else (self._decode(name, text), True)

    def _get(self, s: BaseFields, name: str) -> tuple[T | None, bool]:
        try:
            return self._lookup(s, name)
        except (Decode, Sealed) as err:
            s.core.fail(err)
            return None, False

    def _set(self, s: BaseFields, name: str, value: T) -> None:
        try:
            text = encode_json(name, value)
        except Invalid as err:
            s.core.fail(err)
            return
        s.core.change(Op("set", name, text))

    def _take(self, s: BaseFields, name: str) -> Flow[T | None]:
        text = yield from s.core.take(name)
        return None if text is None else self._decode(name, text)

    def _update(self, s: BaseFields, name: str, f: Callable[[T | None], T]) -> Flow[T]:
        made: list[T] = []

        def encoded(text: bytes | None) -> bytes:
            value = f(None if text is None else self._decode(name, text))
            made[:] = [value]
            try:
                return encode_json(name, value)
            except Invalid as err:
                s.core.fail(err)
                raise

        yield from s.core.update(name, encoded)
        return made[0]


def _run(s: SyncFields | AsyncFields, flow: Flow[T]) -> Any:
    return s.run(flow)


class Value(_Typed[T]):
    """One value of a JSON type. The last write wins; `update` is atomic.

    With a type, such as str or dict, a stored value of another type is a Decode error.
    """

    @overload
    def get(self, s: BaseFields) -> T | None: ...
    @overload
    def get(self, s: BaseFields, default: D) -> T | D: ...
    def get(self, s: BaseFields, default: Any = None) -> Any:
        """Returns the value, or the default if it is unset."""
        value, found = self._get(s, self.name)
        return value if found else default

    def lookup(self, s: BaseFields) -> tuple[T | None, bool]:
        """Returns the value, and whether it is set. Raises Decode or Sealed, which get keeps."""
        return self._lookup(s, self.name)

    def set(self, s: BaseFields, value: T) -> None:
        """Sets the value."""
        self._set(s, self.name, value)

    def delete(self, s: BaseFields) -> None:
        """Unsets the value."""
        s.core.change(Op("unset", self.name))

    @overload
    def take(self, s: SyncFields) -> T | None: ...
    @overload
    def take(self, s: AsyncFields) -> Awaitable[T | None]: ...
    def take(self, s: Any) -> Any:
        """Removes the value and returns it, to exactly one caller. It commits."""
        return _run(s, self._take(s, self.name))

    @overload
    def update(self, s: SyncFields, f: Callable[[T | None], T]) -> T: ...
    @overload
    def update(self, s: AsyncFields, f: Callable[[T | None], T]) -> Awaitable[T]: ...
    def update(self, s: Any, f: Callable[[T | None], T]) -> Any:
        """Replaces the value with the result of f, atomically. It commits.

        If another request changes the value first, f is called again. f must have no side effects.
        """
        return _run(s, self._update(s, self.name, f))


class Map(_Typed[T]):
    """Values under keys. Requests that write different entries do not conflict."""

    def _entry(self, key: str) -> str:
        return f"{self.name}:{key}"

    @overload
    def get(self, s: BaseFields, key: str) -> T | None: ...
    @overload
    def get(self, s: BaseFields, key: str, default: D) -> T | D: ...
    def get(self, s: BaseFields, key: str, default: Any = None) -> Any:
        """Returns an entry, or the default if there is none."""
        value, found = self._get(s, self._entry(key))
        return value if found else default

    def set(self, s: BaseFields, key: str, value: T) -> None:
        """Sets an entry. A key has at most 256 bytes of UTF-8."""
        self._set(s, self._entry(key), value)

    @overload
    def set_within(self, s: SyncFields, key: str, value: T, entries: int) -> None: ...
    @overload
    def set_within(self, s: AsyncFields, key: str, value: T, entries: int) -> Awaitable[None]: ...
    def set_within(self, s: Any, key: str, value: T, entries: int) -> Any:
        """Sets an entry, unless it is new and the map would have more than `entries`. It commits.

        The server decides, so the limit holds for concurrent requests. New entries among the
        request's other changes count, too. Raises Limit: then nothing was stored, the other changes
        are still pending, and the session takes more.
        """
        return _run(s, self._set_within(s, self._entry(key), value, entries))

    def _set_within(self, s: BaseFields, name: str, value: T, entries: int) -> Flow[None]:
        try:
            ops = Op("set", name, encode_json(name, value)), _limit(self.name, entries)
        except Invalid as err:
            s.core.fail(err)
            raise
        yield from s.core.bounded(*ops)

    def delete(self, s: BaseFields, key: str) -> None:
        """Removes an entry."""
        s.core.change(Op("unset", self._entry(key)))

    def all(self, s: BaseFields) -> dict[str, T]:
        """Returns the entries, sorted by key. What cannot be read fails the commit."""
        entries: dict[str, T] = {}
        for key in s.core.entries(self.name):
            value, found = self._get(s, self._entry(key))
            if found:
                entries[key] = value  # type: ignore[assignment]
        return entries

    def clear(self, s: BaseFields) -> None:
        """Removes all entries, including those that another request adds before the commit."""
        s.core.change(Op("unset-entries", self.name))

    @overload
    def take(self, s: SyncFields, key: str) -> T | None: ...
    @overload
    def take(self, s: AsyncFields, key: str) -> Awaitable[T | None]: ...
    def take(self, s: Any, key: str) -> Any:
        """See Value.take."""
        return _run(s, self._take(s, self._entry(key)))

    @overload
    def update(self, s: SyncFields, key: str, f: Callable[[T | None], T]) -> T: ...
    @overload
    def update(self, s: AsyncFields, key: str, f: Callable[[T | None], T]) -> Awaitable[T]: ...
    def update(self, s: Any, key: str, f: Callable[[T | None], T]) -> Any:
        """See Value.update."""
        return _run(s, self._update(s, self._entry(key), f))


def _count(s: BaseFields, name: str) -> int:
    text = s.core.stored(name)
    if text is None:
        return 0
    n = parse_integer(text)
    if n is None:
        s.core.fail(Decode(f"field {name!r} is not a counter"))
        return 0
    return n


def _integer(name: str, n: int, least: int = MIN_INT, most: int = MAX_INT) -> int:
    if isinstance(n, bool) or not isinstance(n, int) or not least <= n <= most:
        raise Invalid(f"field {name!r}: {n!r} is not an integer from {least} to {most}")
    return n


def _add(s: BaseFields, name: str, n: int) -> None:
    try:
        s.core.change(Op("add", name, delta=_integer(name, n)))
    except Invalid as err:
        s.core.fail(err)


def _limit(name: str, entries: int) -> Op:
    return Op("limit", name, most=_integer(name, entries, 0, (1 << 32) - 1))


def _add_within(
    s: BaseFields, name: str, n: int, least: int, most: int, field: str = "", entries: int = 0
) -> Flow[int]:
    try:
        within = _integer(name, least), _integer(name, most)
        ops = [Op("add", name, delta=_integer(name, n), within=within)]
        if field:
            ops.append(_limit(field, entries))
    except Invalid as err:
        s.core.fail(err)
        raise
    value = yield from s.core.bounded(*ops)
    return int(value or 0)


class Counter(Field):
    """An integer of 64 bits. Concurrent additions add up."""

    counts = True

    def get(self, s: BaseFields) -> int:
        """Returns the count as the request sees it. It is exact after commit."""
        return _count(s, self.name)

    def add(self, s: BaseFields, n: int = 1) -> None:
        """Adds n, which may be negative. A sum beyond 64 bits fails the commit."""
        _add(s, self.name, n)

    @overload
    def add_within(self, s: SyncFields, n: int, least: int, most: int) -> int: ...
    @overload
    def add_within(self, s: AsyncFields, n: int, least: int, most: int) -> Awaitable[int]: ...
    def add_within(self, s: Any, n: int, least: int, most: int) -> Any:
        """Adds n, unless the count would not be from least to most. Returns the count. It commits.

        A count that is out of these bounds already may come closer.

        The server decides, so the bounds hold for concurrent requests: use it for stock, seats or
        attempts. Raises Limit: then nothing was stored, the other changes of the request are still
        pending, and the session takes more.
        """
        return _run(s, _add_within(s, self.name, n, least, most))

    def reset(self, s: BaseFields) -> None:
        """Sets the counter to 0."""
        s.core.change(Op("unset", self.name))


class Counters(Field):
    """A counter for each key, such as the quantities of a cart."""

    counts = True

    def get(self, s: BaseFields, key: str) -> int:
        """Returns the count of a key, 0 if it is unset."""
        return _count(s, f"{self.name}:{key}")

    def add(self, s: BaseFields, key: str, n: int = 1) -> None:
        """Adds n to the count of a key."""
        _add(s, f"{self.name}:{key}", n)

    @overload
    def add_within(self, s: SyncFields, key: str, n: int, least: int, most: int, entries: int) -> int: ...
    @overload
    def add_within(
        self, s: AsyncFields, key: str, n: int, least: int, most: int, entries: int
    ) -> Awaitable[int]: ...
    def add_within(self, s: Any, key: str, n: int, least: int, most: int, entries: int) -> Any:
        """See Counter.add_within.

        Also raises Limit if it would add a key, and there would be more than `entries`. A key with
        a count of 0 is an entry, too, until it is deleted.
        """
        return _run(s, _add_within(s, f"{self.name}:{key}", n, least, most, self.name, entries))

    def delete(self, s: BaseFields, key: str) -> None:
        """Removes a key and its count."""
        s.core.change(Op("unset", f"{self.name}:{key}"))

    def all(self, s: BaseFields) -> dict[str, int]:
        """Returns the counts, sorted by key."""
        return {key: _count(s, f"{self.name}:{key}") for key in s.core.entries(self.name)}

    def clear(self, s: BaseFields) -> None:
        """Removes all keys."""
        s.core.change(Op("unset-entries", self.name))
