"""The contract suite, with threads and with asyncio. The programs speak the step protocol."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable

import pytest
import redis
from conftest import Server

CONTRACT = Path(__file__).parents[3] / "format" / "contract"
PROGRAM = Path(__file__).with_name("contract_program.py")
counts: dict[str, int] = {}
REPEAT_FOR = 30  # seconds


def scenarios() -> list[Any]:
    found = []
    for file in sorted(CONTRACT.glob("*.json")):
        if file.name != "not-covered.json":
            for s in json.loads(file.read_text("utf-8"))["scenarios"]:
                found.append(pytest.param(s, id=f"{file.stem}: {s['name']}"))
    return found


class Program:
    """A contract program, and the replies that are awaited."""

    def __init__(self, mode: str) -> None:
        env = {**os.environ, "COATCHECK_ASYNC": "1" if mode == "asyncio" else "0"}
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env
        )
        self.condition, self.next, self.replies = threading.Condition(), 0, {}
        threading.Thread(target=self.read, daemon=True).start()

    def read(self) -> None:
        for line in self.process.stdout:
            reply = json.loads(line)
            with self.condition:
                self.replies[reply["id"]] = reply
                self.condition.notify_all()

    def send(self, request: dict[str, Any]) -> int:
        with self.condition:
            self.next += 1
            self.process.stdin.write((json.dumps({**request, "id": self.next}) + "\n").encode())
            self.process.stdin.flush()
            return self.next

    def wait(self, id: int) -> dict[str, Any]:
        with self.condition:
            if not self.condition.wait_for(lambda: id in self.replies, 60):
                raise TimeoutError("no reply of the program")
            return self.replies.pop(id)

    def close(self) -> None:
        self.process.stdin.close()
        assert self.process.wait(60) == 0


@pytest.fixture(scope="module", params=["threads", "asyncio"])
def program(request):
    p = Program(request.param)
    p.mode = request.param
    yield p
    p.close()


class Run:
    """One run of a scenario."""

    def __init__(self, program: Program, scenario: Any, url: str, namespace: str) -> None:
        self.program, self.scenario, self.url, self.ns = program, scenario, url, namespace
        self.tokens: dict[str, str | None] = {}
        self.handles: dict[str, str] = {}
        host, _, port = url.rpartition("://")[2].partition(",")[0].rpartition(":")
        self.cluster = url.startswith("redis-cluster")
        kind = redis.RedisCluster if self.cluster else redis.Redis
        self.redis = kind(host=host, port=int(port.rstrip("/")), decode_responses=True)

    def run(self) -> None:
        for i, step in enumerate(self.scenario["steps"]):
            try:
                self.step(step)
            except AssertionError as err:
                raise AssertionError(f"step {i}: {json.dumps(step)[:600]}\n{err}") from None

    def key(self, visitor: str) -> str:
        handle = self.handles.get(visitor, "")
        return f"{self.ns}:{{{handle[:4]}}}:s:{handle[5:]}"

    def fill(self, x: Any, i: int = 0) -> Any:
        if isinstance(x, list):
            return [self.fill(e, i) for e in x]
        if isinstance(x, dict):
            return {self.fill(k, i): self.fill(v, i) for k, v in x.items()}
        if not isinstance(x, str):
            return x
        x = x.replace("<ns>", self.ns).replace("<i>", str(i))
        x = re.sub("<token ([^>]*)>", lambda m: self.tokens.get(m[1]) or "", x)
        x = re.sub("<handle ([^>]*)>", lambda m: self.handles.get(m[1], ""), x)
        return re.sub("<key ([^>]*)>", lambda m: self.key(m[1]), x)

    def client(self, name: str) -> dict[str, Any]:
        clients = self.scenario.get("clients") or {"a": {}}
        options = {**self.scenario.get("options", {}), **clients[name]}
        return {"url": self.url, **self.fill(options), "name": name, "namespace": self.ns}

    def request(self, step: Any, visitor: str | None, on: str, i: int = 0) -> dict[str, Any]:
        request = {"client": self.client(on), "do": self.fill(step.get("do", []), i)}
        if visitor and self.tokens.get(visitor) is not None:
            request["token"] = self.tokens[visitor]
        for name in ("request", "open"):
            if name in step:
                request[name] = f"{self.ns} {step[name]}" if name == "request" else step[name]
        return request

    def update(self, visitor: str | None, reply: dict[str, Any]) -> None:
        if visitor is None or "token" not in reply:
            return
        self.tokens[visitor] = reply["token"]
        if reply.get("session"):
            self.handles[visitor] = reply["session"]

    def step(self, step: Any) -> None:
        if "at once" in step:
            self.at_once(step)
        elif "redis" in step:
            self.attempt(step, self.command)
        elif "wait_ms" in step:
            time.sleep(step["wait_ms"] / 1000)
        elif "token" in step:
            text = self.fill(step["text"])
            if "cut" in step:
                text = text[step["cut"][0] : step["cut"][1]]
            self.tokens[step["token"]] = step.get("before", "") + text
        else:
            self.attempt(step, self.make)

    def attempt(self, step: Any, make: Callable[[Any], None]) -> None:
        """Makes a step, and again if the step asks for that, until it comes out as wanted."""
        end = time.monotonic() + (REPEAT_FOR if step.get("repeat") else 0)
        while (began := time.monotonic()) < end:
            try:
                return make(step)
            except AssertionError:
                time.sleep(max(0, began + 0.01 - time.monotonic()))
        make(step)

    def make(self, step: Any) -> None:
        before = self.stored(step)
        visitor = step.get("as")
        reply = self.program.wait(self.program.send(self.request(step, visitor, step.get("on", "a"))))
        want = self.fill(step.get("want", {}))
        wrong = self.mismatch(reply, want)
        assert not wrong, f"{wrong}: {reply}"
        assert self.stored(step) == before, "the record has changed"
        self.update(visitor, reply)

    def stored(self, step: Any) -> Any:
        if "unchanged" not in step:
            return None
        found = self.redis.hgetall(self.key(step["unchanged"]))
        if "@s" in found:
            s = found["@s"]
            found["@s"] = s[:24] + s[36:44] + s[56:]
        return found

    def command(self, step: Any) -> None:
        args = self.fill(step["redis"])
        if step.get("everywhere") and self.cluster:
            for node in self.redis.get_primaries():
                self.redis.execute_command(*args, target_nodes=node)
            return
        got = self.raw(args)
        if "want" in step:
            assert same(got, self.fill(step["want"])), f"the server replied {got!r}"

    def raw(self, args: list[Any]) -> Any:
        client = self.redis
        if self.cluster:
            key = args[3] if args[0].upper() == "EVAL" else args[1]
            client = client.get_redis_connection(client.get_node_from_key(key))
        connection = client.connection_pool.get_connection()
        try:
            connection.send_command(*[str(a) for a in args])
            return connection.read_response()
        finally:
            client.connection_pool.release(connection)

    def mismatch(self, reply: Any, want: Any) -> str:
        outcomes = want.get("outcome", "ok")
        if reply["outcome"] not in ([outcomes] if isinstance(outcomes, str) else outcomes):
            return f"the outcome is not {outcomes}"
        if "values" in want and reply["outcome"] == "ok" and not same(reply["values"], want["values"]):
            return f"the values are not {want['values']}"
        if "session" in want:
            has, expected = reply.get("session"), want["session"]
            if isinstance(expected, bool) and bool(has) != expected or isinstance(expected, str) and has != expected:
                return f"the session is not {expected}"
        if "token" in want:
            kind = "none" if "token" not in reply else "deleted" if reply["token"] is None else "set"
            if kind != want["token"]:
                return f"the token is not {want['token']}"
        return ""

    def at_once(self, step: Any) -> None:
        sent = []
        for element in step["at once"]:
            visitors = element.get("as")
            visitors = visitors if isinstance(visitors, list) else [visitors]
            on = element.get("on", "a")
            on = on if isinstance(on, list) else [on]
            i = 0
            for visitor in visitors:
                for _ in range(element.get("times", 1)):
                    sent.append((visitor, self.request(element, visitor, on[i % len(on)], i)))
                    i += 1
        ids = [self.program.send(request) for _, request in sent]
        replies = [self.program.wait(id) for id in ids]
        wants = [self.fill(w) for w in step.get("want", [{}])]
        matches = [[not self.mismatch(r, w) for w in wants] for r in replies]
        for reply, match in zip(replies, matches):
            assert any(match), f"no entry matches: {reply}; {[self.mismatch(reply, w) for w in wants]}"
        for (visitor, _), reply in zip(sent, replies):
            self.update(visitor, reply)
        for j, want in enumerate(wants):
            n = sum(m[j] for m in matches)
            if "times" in want:
                least, most = want["times"] if isinstance(want["times"], list) else (want["times"],) * 2
                assert least <= n <= most, f"entry {j} matches {n} replies: {replies}"
            if "counted" in want:
                visitor, counter = want["counted"]
                first = next(iter(self.scenario.get("clients") or {"a": {}}))
                reply = self.program.wait(
                    self.program.send(self.request({"do": [["count", counter]]}, visitor, first))
                )
                assert reply["values"] == [str(n)], f"{n} replies match entry {j}, the counter: {reply}"
        if step.get("distinct"):
            values = [json.dumps(r["values"], sort_keys=True) for r in replies]
            assert len(set(values)) == len(values), f"two replies have the same values: {values}"


def same(a: Any, b: Any) -> bool:
    """Compares JSON: numbers by value, and true is no number."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(v, b[k]) for k, v in a.items())
    return type(a) is type(b) and a == b or isinstance(a, (int, float)) and isinstance(b, (int, float)) and a == b


@pytest.fixture(scope="module")
def runs(program, url):
    """Runs of the scenarios that only wait, six at a time. The others run alone after them."""
    waiting = [p.values[0] for p in scenarios() if only_waits(p.values[0])]
    with ThreadPoolExecutor(6) as pool:
        found = {s["name"]: pool.submit(Run(program, s, url, new_namespace()).run) for s in waiting}
    return found


def only_waits(scenario: Any) -> bool:
    steps = scenario["steps"]
    return (
        "own server" not in needs(scenario)
        and any("wait_ms" in s for s in steps)
        and not any("at once" in s for s in steps)
    )


def needs(scenario: Any) -> list[str]:
    return scenario.get("needs", [])


def new_namespace() -> str:
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.mark.parametrize("scenario", scenarios())
def test_scenario(scenario, program, runs, url):
    if scenario["name"] in runs:
        runs[scenario["name"]].result()
    elif "own server" not in needs(scenario):
        Run(program, scenario, url, new_namespace()).run()
    elif "COATCHECK_TEST_REDIS" in os.environ:
        pytest.skip("it changes the configuration of the server")
    else:
        server = Server()
        try:
            Run(program, scenario, server.url, new_namespace()).run()
        finally:
            server.close()
    counts[program.mode] = counts.get(program.mode, 0) + 1
