"""The ends that this process made. Redis replicates after it replies: a failover can undo an end.

So the process refuses each of these sessions itself, and repeats the ends: after 1 s, 5 s, 30 s and
5 min, after each lost connection, and when a primary has changed. A repetition deletes a session
that is there again, and never a marker.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

# Deletes a session that is there again, malformed or not.
REPEAT = b"""local markers = redis.pcall('HMGET', KEYS[1], '@ended', '@moved')
if markers[1] or markers[2] then return 0 end
return redis.call('DEL', KEYS[1])"""

_DELAYS = (1.0, 5.0, 30.0, 300.0)
_KEEP = 24 * 3600.0  # seconds; the process refuses the session, and repeats the end, for so long
_MOST = 100_000
_WATCH_EVERY = 1.0


@dataclass
class _End:
    owner: str | None
    made: float
    moved: bool
    repeated: int = 0
    next: float = 0.0


class Ends:
    """Safe for threads. A forked process has its own copy, and repeats what it inherited."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: OrderedDict[str, _End] = OrderedDict()
        self._revocations: OrderedDict[str, tuple[bytes, _End]] = OrderedDict()
        self._all = False
        self._primaries: frozenset[bytes] = frozenset()
        self._watched = 0.0
        self.stopped = False  # the manager closes: a repetition that runs leaves the rest
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        self._lock = threading.Lock()  # another thread of the parent may have held it

    def __len__(self) -> int:
        return len(self._ends) + len(self._revocations)

    def add(self, handle: str, owner: str | None, moved: bool = False) -> None:
        """Notes an end, or with `moved` that a sign-in replaced the session."""
        now = time.monotonic()
        with self._lock:
            before = self._ends.pop(handle, None)
            if before:
                owner, moved = owner or before.owner, moved or before.moved
            end = _End(owner, before.made if before else now, moved, next=now + _DELAYS[0])
            self._ends[handle] = end
            while len(self._ends) > _MOST:
                self._ends.popitem(last=False)

    def forget(self, handle: str) -> None:
        """Forgets an end of a session that did not exist: anybody can make up a name."""
        with self._lock:
            self._ends.pop(handle, None)

    def add_revocation(self, owner: str, revocation: bytes) -> None:
        now = time.monotonic()
        with self._lock:
            self._revocations[owner] = (revocation, _End(owner, now, False, next=now + _DELAYS[0]))
            while len(self._revocations) > _MOST // 10:
                self._revocations.popitem(last=False)

    def refusal(self, handle: str) -> tuple[str, float] | None:
        """Returns "ended" or "moved", and how many milliseconds ago; None for other sessions."""
        with self._lock:
            end = self._ends.get(handle)
        if end is None:
            return None
        return "moved" if end.moved else "ended", (time.monotonic() - end.made) * 1000

    def connection_lost(self) -> None:
        self._all = True

    def watches(self) -> bool:
        """Reports whether the primaries are to be looked at now."""
        now = time.monotonic()
        if not len(self) or now - self._watched < _WATCH_EVERY:
            return False
        self._watched = now
        return True

    def primaries(self, ids: frozenset[bytes]) -> None:
        if self._primaries and ids != self._primaries:
            self._all = True
        self._primaries = ids

    def due(self) -> list[tuple[str, str | None, bool]]:
        """Returns the ends to repeat now, and schedules their next repetition."""
        now = time.monotonic()
        with self._lock:
            whole, self._all = self._all, False
            while self._ends and now - next(iter(self._ends.values())).made > _KEEP:
                self._ends.popitem(last=False)
            if whole:
                for _, revocation in self._revocations.values():
                    revocation.next = now
            return [
                (handle, end.owner, end.moved)
                for handle, end in self._ends.items()
                if _schedule(end, now, whole)
            ]

    def due_revocations(self) -> list[tuple[str, bytes]]:
        now = time.monotonic()
        with self._lock:
            return [
                (owner, text)
                for owner, (text, end) in self._revocations.items()
                if _schedule(end, now, False)
            ]


def _schedule(end: _End, now: float, whole: bool) -> bool:
    if end.next <= now:
        end.repeated += 1
        last = end.repeated >= len(_DELAYS)
        end.next = float("inf") if last else end.made + _DELAYS[end.repeated]
        return True
    return whole
