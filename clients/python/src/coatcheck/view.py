"""What a request sees: the stored values, and the request's own changes on top."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Sequence

from .errors import Invalid, TooLarge

MIN_INT, MAX_INT = -(1 << 63), (1 << 63) - 1
MAX_OPS = 4096
_INTEGER = re.compile(rb"0|-?[1-9][0-9]{0,18}")


def parse_integer(text: bytes) -> int | None:
    """Returns the integer in a stored counter, or None. int() accepts much more."""
    if not _INTEGER.fullmatch(text):
        return None
    n = int(text)
    return n if MIN_INT <= n <= MAX_INT else None


@dataclass
class Op:
    """One change: set, unset, unset-entries, clear, add, take, swap or limit.

    `value` is as it is stored, sealed or not. `old` is what swap compares; None for a missing
    value. `within` are the bounds of add. `most` is how many entries limit allows a map.
    """

    kind: str
    name: str = ""
    value: bytes | None = None
    old: bytes | None = None
    delta: int = 0
    within: tuple[int, int] | None = None
    most: int = 0

    def arguments(self) -> tuple[bytes | str, bytes | str, bytes | str, bytes | str]:
        """Returns the four arguments of apply.lua."""
        a: bytes | str = ""
        b: bytes | str = ""
        if self.kind == "set":
            a = self.value or b""
        elif self.kind == "add":
            a = str(self.delta)
            b = f"{self.within[0]} {self.within[1]}" if self.within else ""
        elif self.kind == "swap":
            a = b"" if self.old is None else b"=" + self.old
            b = b"" if self.value is None else b"=" + self.value
        elif self.kind == "limit":
            a = str(self.most)
        return self.kind, self.name.encode(), a, b

    def exceeded(self, fields: dict[str, bytes], before: bytes | None) -> str | None:
        """Returns why a record that does not exist yet refuses this change, or None.

        `fields` are the values that the change made, and `before` is the one that it found. A count
        that is out of its bounds may come closer.
        """
        if self.kind == "swap" and self.old != before:
            return "conflict"
        if self.within:
            (least, most), n = self.within, int(fields[self.name])
            if n < least and (before is None or self.delta <= 0):
                return "conflict"
            if n > most and (before is None or self.delta >= 0):
                return "conflict"
        prefix = self.name + ":"
        if self.kind == "limit" and sum(n.startswith(prefix) for n in fields) > self.most:
            return "entries"
        return None


def run(fields: dict[str, bytes], op: Op) -> None:
    """Makes a change on the values. Raises Invalid for a sum that is refused."""
    if op.kind == "limit":
        return
    if op.kind == "clear":
        fields.clear()
    elif op.kind == "unset-entries":
        for name in [n for n in fields if n.startswith(op.name + ":")]:
            del fields[name]
    elif op.kind == "add":
        n = parse_integer(fields.get(op.name, b"0"))
        if n is None:
            raise Invalid(f"field {op.name!r} is not a counter")
        if not MIN_INT <= n + op.delta <= MAX_INT:
            raise Invalid(f"field {op.name!r}: the sum is not a 64-bit integer")
        fields[op.name] = str(n + op.delta).encode()
    elif op.value is not None and op.kind in ("set", "swap"):
        fields[op.name] = op.value
    else:
        fields.pop(op.name, None)


class View:
    """The values as a request sees them, and the changes that are not committed."""

    def __init__(self) -> None:
        self.base: dict[str, bytes] = {}
        self.ops: list[Op] = []
        self.fields: dict[str, bytes] = {}

    def rebase(self, stored: dict[str, bytes]) -> None:
        """Makes other values the stored ones. The changes stay."""
        self.base = stored
        self.fields = dict(stored)
        for op in self.ops:
            try:
                run(self.fields, op)
            except Invalid:
                pass  # the commit reports it

    def change(self, op: Op) -> None:
        """Makes a change. Raises Invalid or TooLarge."""
        run(self.fields, op)
        if op.kind == "clear":
            self.ops = [op]
            return
        last = self.ops[-1] if self.ops else None
        if last and last.name == op.name and op.kind in ("set", "unset") and last.kind in ("set", "unset", "add"):
            self.ops[-1] = op
        elif last and last.name == op.name and op.kind == last.kind == "add":
            total = last.delta + op.delta
            # A sum that crosses zero may overflow between the two: keep them apart.
            if (last.delta < 0) == (op.delta < 0) and MIN_INT <= total <= MAX_INT:
                self.ops[-1] = replace(op, delta=total)
            else:
                self._append(op)
        else:
            self._append(op)

    def _append(self, op: Op) -> None:
        if len(self.ops) >= MAX_OPS - 1:
            raise TooLarge(f"a commit has at most {MAX_OPS} operations: commit more often")
        self.ops.append(op)

    def begin(self) -> list[Op]:
        """Hands out the changes for a commit. Changes made while it runs are for the next one."""
        ops, self.ops = self.ops, []
        return ops

    def restore(self, ops: list[Op]) -> None:
        """Takes back a commit that failed."""
        self.ops = ops + self.ops
        self.rebase(self.base)

    def settle(self, ops: Sequence[Op], values: Sequence[bytes | None]) -> None:
        """Makes the base what the server's reply says of a commit."""
        base = dict(self.base)
        for i, op in enumerate(ops):
            value = values[i] if i < len(values) else None
            if op.kind == "add" and value is not None:
                op = Op("set", op.name, value)
            try:
                run(base, op)
            except Invalid:
                base.pop(op.name, None)
        self.rebase(base)

    def discard(self) -> None:
        self.ops = []
        self.fields = dict(self.base)
