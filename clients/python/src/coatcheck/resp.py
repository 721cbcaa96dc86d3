"""The protocol of Redis: packs commands, and parses the replies of RESP2."""

from __future__ import annotations

from typing import Any, Sequence

Command = Sequence[Any]


class ServerError(Exception):
    """The error that a server replied to a command. `address` is that of MOVED and ASK."""

    def __init__(self, code: str, text: str, address: tuple[str, int] | None = None) -> None:
        super().__init__(f"{code} {text}"[:300])
        self.code, self.address = code, address


def pack(commands: Sequence[Command]) -> bytes:
    """Returns commands as they are sent. Arguments are bytes, texts and integers.

    A command that is bytes was packed before.
    """
    parts: list[Any] = []
    for command in commands:
        if type(command) is bytes:
            parts.append(command)
            continue
        parts.append(b"*%d\r\n" % len(command))
        arguments = [
            a if type(a) is bytes else a.encode() if type(a) is str else b"%d" % a for a in command
        ]
        parts += [b"$%d\r\n%b\r\n" % (len(a), a) for a in arguments]
    return b"".join(parts)


def parse(data: bytes, count: int) -> list[Any] | None:
    """Returns so many replies, or None if the data does not have all of them.

    An error of the server is one of the replies. Raises ValueError for what is not RESP2.
    """
    lines = data.split(b"\r\n")
    if lines.pop():  # the last line has no end yet
        return None
    replies, at = [], 0
    try:
        for _ in range(count):
            reply, at = _reply(lines, at)
            replies.append(reply)
    except IndexError:
        return None
    if at != len(lines):
        raise ValueError("more replies than commands")
    return replies


def _reply(lines: list[bytes], at: int) -> tuple[Any, int]:
    """Returns the reply that begins at a line, and where the next one begins."""
    head = lines[at]
    kind, at = head[:1], at + 1
    if kind == b"*":
        count = int(head[1:])
        if count < 0:
            return None, at
        end = at + 2 * count
        values = lines[at + 1 : end : 2]
        # Most lists have texts alone, without line breaks: check that at once.
        if lines[at:end:2] == [b"$%d" % len(v) for v in values]:
            return values, end
        items: list[Any] = []
        for _ in range(count):
            head = lines[at]
            if head[:1] == b":":
                item, at = int(head[1:]), at + 1
            else:
                item, at = _reply(lines, at)
            items.append(item)
        return items, at
    if kind == b"$":
        size = int(head[1:])
        if size < 0:
            return None, at
        value, at = lines[at], at + 1
        return (value, at) if len(value) == size else _with_line_breaks(lines, at - 1, size)
    if kind == b":":
        return int(head[1:]), at
    if kind == b"+":
        return head[1:], at
    if kind == b"-":
        return _error(head[1:].decode("utf-8", "replace")), at
    raise ValueError(f"not a reply: {head[:40]!r}")


def _with_line_breaks(lines: list[bytes], at: int, size: int) -> tuple[bytes, int]:
    """Returns a text that has line breaks itself, and so is several lines."""
    parts, have = [lines[at]], len(lines[at])
    while have < size:
        at += 1
        parts.append(lines[at])
        have += 2 + len(lines[at])
    if have > size:
        raise ValueError("a text of another length")
    return b"\r\n".join(parts), at + 1


def _error(text: str) -> ServerError:
    code, _, rest = text.partition(" ")
    host, _, port = rest.rpartition(" ")[2].rpartition(":")
    is_address = code in ("MOVED", "ASK") and host and port.isdecimal()
    return ServerError(code, rest, (host, int(port)) if is_address else None)
