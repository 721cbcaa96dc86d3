"""Faults in the calls of scripts: lost replies, lost calls, and what others do just before a call."""

from __future__ import annotations

from typing import Any, Callable

from coatcheck.calls import SCRIPTS
from coatcheck.wire import ServerError, TripFailed

NAMES = {of.sha: name for name, of in SCRIPTS.items()} | {of.source: name for name, of in SCRIPTS.items()}


class Faults:
    """Stands between a Manager and its connections. Calls of scripts are counted in `seen`."""

    def __init__(self, manager: Any, monkeypatch: Any) -> None:
        self.real, self.seen = manager.wire._trip, list[str]()
        self.rules: list[tuple[str, int, Callable[[Any], Any]]] = []
        monkeypatch.setattr(manager.wire, "_trip", self.trip)

    def at(self, script: str, act: Callable[[Any], Any], times: int = 1) -> None:
        """Makes the next calls of a script go to `act`, which gets the trip."""
        self.rules.append((script, times, act))

    def trip(self, trip: Any) -> Any:
        command = trip.commands[0]
        name = NAMES.get(command[1], "") if command[0] in ("EVAL", "EVALSHA") else "read"
        self.seen.append(name)
        for i, (script, times, act) in enumerate(self.rules):
            if script == name:
                self.rules[i : i + 1] = [(script, times - 1, act)] if times > 1 else []
                return act(trip)
        return self.real(trip)

    # What `act` can be

    def lose_reply(self, trip: Any) -> Any:
        self.done(trip)
        raise TripFailed(ConnectionError("the reply is lost"), sent=True)

    def lose_call(self, trip: Any) -> Any:
        raise TripFailed(ConnectionError("the call is lost"), sent=True)

    def refuse(self, code: str) -> Callable[[Any], Any]:
        return lambda trip: [ServerError(code, "later")] * len(trip.commands)

    def after(self, act: Callable[[], Any]) -> Callable[[Any], Any]:
        """Makes the call after something else has happened."""

        def both(trip: Any) -> Any:
            act()
            return self.done(trip)

        return both

    def done(self, trip: Any) -> Any:
        """Makes a call for which the script is loaded already, or not."""
        replies = self.real(trip)
        if isinstance(replies[0], ServerError) and replies[0].code == "NOSCRIPT":
            command = trip.commands[0]
            source = SCRIPTS[NAMES[command[1]]].source
            trip.commands = [("EVAL", source, *command[2:]), *trip.commands[1:]]
            replies = self.real(trip)
        return replies
