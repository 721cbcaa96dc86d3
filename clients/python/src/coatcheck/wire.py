"""Runs the flows of store.py on redis-py, synchronously or with asyncio.

A flow is a generator: it yields a step, and receives the result of the step. So the logic exists
once, and only this module differs between the two kinds.

Commands are sent on a connection of redis-py's pool, not with the commands of its clients. The
clients repeat a command whose connection broke, and an addition would count twice. The pool knows
the servers, TLS, passwords, Sentinel and fork; replies are bytes even with decode_responses=True.

With RESP2, replies are read from the socket, because the parser of redis-py takes several times as
long. With RESP3, the server may send messages between replies, for redis-py to handle.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import select
import socket
import time
from dataclasses import dataclass
from typing import Any, Generator, Sequence, TypeVar

import redis
import redis.asyncio
import redis.exceptions
from redis.cluster import RedisCluster

from .resp import Command, ServerError, pack, parse

T = TypeVar("T")
_CHUNK = 1 << 18


@dataclass
class Trip:
    """Sends commands in one pipeline. The result is a list: a reply or a ServerError each.

    The server is that of `key` on a Cluster. `address` names another one. `asking` sends ASKING
    before each command, for a slot that is moving.
    """

    key: bytes
    commands: Sequence[Command]
    address: tuple[str, int] | None = None
    asking: bool = False


class TripFailed(Exception):
    """The connection failed. `sent` says that a server may have got the commands."""

    def __init__(self, cause: BaseException, sent: bool) -> None:
        super().__init__(f"{type(cause).__name__}: {cause}")
        self.sent = sent


@dataclass(frozen=True)
class Pause:
    """Waits."""

    seconds: float


@dataclass(frozen=True)
class Refresh:
    """Learns the nodes of the Cluster again. Does nothing on other topologies."""


@dataclass(frozen=True)
class Primaries:
    """The result is the list of the primaries' addresses. None stands for the only server."""


Step = Trip | Pause | Refresh | Primaries
Flow = Generator[Step, Any, T]


_FAILURES = (redis.exceptions.RedisError, OSError, asyncio.TimeoutError, EOFError)
_REOPEN = ("READONLY", "LOADING", "MASTERDOWN")
_CODES = {  # redis-py cuts the code off
    redis.exceptions.MovedError: "MOVED",
    redis.exceptions.AskError: "ASK",
    redis.exceptions.TryAgainError: "TRYAGAIN",
    redis.exceptions.BusyLoadingError: "LOADING",
    redis.exceptions.ReadOnlyError: "READONLY",
    redis.exceptions.MasterDownError: "MASTERDOWN",
    redis.exceptions.ClusterDownError: "CLUSTERDOWN",
    redis.exceptions.NoScriptError: "NOSCRIPT",
}


def _server_error(err: Exception) -> ServerError:
    text = str(err)
    code = _CODES.get(type(err)) or text.partition(" ")[0]
    address = (err.host, err.port) if isinstance(err, redis.exceptions.AskError) else None
    return ServerError(code, text, address)


def _must_reopen(replies: list[Any]) -> bool:
    """Reports whether the server is no longer the primary. The pool then asks Sentinel again."""
    for reply in replies:
        if type(reply) is ServerError and reply.code in _REOPEN:
            return True
    return False


def _packed(trip: Trip) -> list[bytes]:
    commands = trip.commands
    if trip.asking:
        commands = [c for command in commands for c in ((b"ASKING",), command)]
    return [pack(commands)]


def _is_loading(reply: Any) -> bool:
    return isinstance(reply, ServerError) and reply.code == "LOADING"


def _receive(sock: socket.socket, count: int) -> list[Any]:
    """Reads replies of RESP2."""
    data = b""
    while True:
        chunk = sock.recv(_CHUNK)
        if not chunk:
            raise EOFError("the server closed the connection")
        data += chunk
        if chunk[-1] == 10:  # else a line is not complete
            try:
                replies = parse(data, count)
            except ValueError as err:
                raise OSError(f"the server does not speak RESP2: {err}") from err
            if replies is not None:
                return replies


def _is_readable(connection: Any) -> bool:
    """Reports whether the server has closed a connection that awaits no reply."""
    try:
        poll = select.poll()
        poll.register(connection._sock, select.POLLIN)
        return bool(poll.poll(0))
    except (OSError, TypeError, ValueError):
        return True


@functools.lru_cache(maxsize=None)
def _get_connection(pool: Any) -> Any:
    """Returns a pool's get_connection without the check for deprecated arguments.

    That check of redis-py 6 and later takes as long as getting a connection.
    """
    return inspect.unwrap(pool.get_connection)


def is_cluster(client: Any) -> bool:
    return isinstance(client, (RedisCluster, redis.asyncio.RedisCluster))


class SyncWire:
    """Runs flows on redis.Redis or redis.RedisCluster.

    With `keep`, it keeps the connections that it got from the pool for its next trips: at most as
    many as threads made trips at the same time. To get a connection from the pool takes four system
    calls, and to return it sends an event.
    """

    def __init__(self, client: Any, keep: bool = False) -> None:
        self.client = client
        self.cluster = is_cluster(client)
        self._keep = keep and not self.cluster and hasattr(select, "poll")
        self._kept: list[Any] = []
        self._pid = os.getpid()

    def run(self, flow: Flow[T]) -> T:
        result: Any = None
        failure: TripFailed | None = None
        while True:
            try:
                step = flow.throw(failure) if failure else flow.send(result)
            except StopIteration as stop:
                value: T = stop.value
                return value
            result = failure = None
            try:
                result = self._make(step)
            except TripFailed as err:
                failure = err
            except BaseException:
                flow.close()
                raise

    def _make(self, step: Step) -> Any:
        if isinstance(step, Trip):
            return self._trip(step)
        if isinstance(step, Pause):
            time.sleep(step.seconds)
        elif self.cluster and isinstance(step, Refresh):
            try:
                self.client.nodes_manager.initialize()
            except _FAILURES as err:
                raise TripFailed(err, sent=False) from err
        elif isinstance(step, Primaries):
            if not self.cluster:
                return [None]
            return [(n.host, n.port) for n in self.client.get_primaries()]
        return None

    def _pool(self, trip: Trip) -> Any:
        if not self.cluster:
            return self.client.connection_pool
        if trip.address:
            node = self.client.get_node(host=trip.address[0], port=trip.address[1])
        else:
            node = self.client.get_node_from_key(trip.key)
        if node is None:
            raise redis.exceptions.ConnectionError("unknown node of the Cluster")
        return self.client.get_redis_connection(node).connection_pool

    def _acquire(self, pool: Any) -> Any:
        if self._pid != os.getpid():  # a forked process gets connections of its own
            self._kept, self._pid = [], os.getpid()
        while self._kept:
            try:
                connection = self._kept.pop()
            except IndexError:  # another thread has taken it
                break
            if not _is_readable(connection):
                return connection
            connection.disconnect()  # the server has closed it
            pool.release(connection)
        return _get_connection(type(pool))(pool)  # type: ignore[arg-type]

    def close(self) -> None:
        """Returns the connections that were kept. Others are returned after their trip."""
        self._keep = False
        while self._kept and self._pid == os.getpid():
            self.client.connection_pool.release(self._kept.pop())

    def _trip(self, trip: Trip) -> list[Any]:
        sent = False
        try:
            pool = self._pool(trip)
            connection = self._acquire(pool)
        except _FAILURES as err:
            raise TripFailed(err, sent) from err
        broken = True
        try:
            packed = _packed(trip)
            sent = True
            connection.send_packed_command(packed)
            replies = self._replies(connection, len(trip.commands) * (1 + trip.asking))
            if trip.asking:
                replies = replies[1::2]
            broken = _must_reopen(replies)
            return replies
        except _FAILURES as err:
            raise TripFailed(err, sent) from err
        finally:
            if self._keep and not broken:
                self._kept.append(connection)
            else:
                if broken:  # also if a signal interrupted the wait: unread replies must not stay
                    connection.disconnect()
                pool.release(connection)

    def _replies(self, connection: Any, count: int) -> list[Any]:
        sock = getattr(connection, "_sock", None)
        if isinstance(sock, socket.socket) and connection.protocol == 2:
            return _receive(sock, count)
        replies: list[Any] = []
        for _ in range(count):
            replies.append(self._read(connection))
            if _is_loading(replies[-1]):  # redis-py has closed the connection
                return replies[-1:] * count
        return replies

    @staticmethod
    def _read(connection: Any) -> Any:
        try:
            return connection.read_response(disable_decoding=True)
        except (redis.exceptions.ResponseError, redis.exceptions.BusyLoadingError) as err:
            return _server_error(err)


class AsyncWire:
    """Runs flows on redis.asyncio.Redis or redis.asyncio.RedisCluster."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.cluster = is_cluster(client)

    async def run(self, flow: Flow[T]) -> T:
        result: Any = None
        failure: TripFailed | None = None
        while True:
            try:
                step = flow.throw(failure) if failure else flow.send(result)
            except StopIteration as stop:
                value: T = stop.value
                return value
            result = failure = None
            try:
                result = await self._make(step)
            except TripFailed as err:
                failure = err
            except BaseException:
                flow.close()
                raise

    async def _make(self, step: Step) -> Any:
        if isinstance(step, Trip):
            return await self._trip(step)
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
        elif self.cluster and isinstance(step, (Refresh, Primaries)):
            try:
                await self.client.initialize()
                if isinstance(step, Refresh):
                    await self.client.nodes_manager.initialize()
                    return None
            except _FAILURES as err:
                raise TripFailed(err, sent=False) from err
            return [(n.host, n.port) for n in self.client.get_primaries()]
        elif isinstance(step, Primaries):
            return [None]
        return None

    async def _acquire(self, trip: Trip) -> tuple[Any, Any]:
        """Returns the pool, or the node of the Cluster, and a connection that is open."""
        if not self.cluster:
            pool = self.client.connection_pool
            return pool, await pool.get_connection()
        await self.client.initialize()
        if trip.address:
            node = self.client.get_node(host=trip.address[0], port=trip.address[1])
        else:
            node = self.client.get_node_from_key(trip.key)
        if node is None:
            raise redis.exceptions.ConnectionError("unknown node of the Cluster")
        connection = node.acquire_connection()
        try:
            await connection.connect()
        except BaseException:
            await self._release(node, connection, broken=True)
            raise
        return node, connection

    async def _release(self, pool: Any, connection: Any, broken: bool) -> None:
        if broken:
            await connection.disconnect(nowait=True)
        if not self.cluster:
            await pool.release(connection)
        elif hasattr(pool, "release"):
            pool.release(connection)
        else:  # redis-py 5
            pool._free.append(connection)

    async def _trip(self, trip: Trip) -> list[Any]:
        sent = False
        try:
            pool, connection = await self._acquire(trip)
        except _FAILURES as err:
            raise TripFailed(err, sent) from err
        broken = True
        try:
            packed = _packed(trip)
            sent = True
            await connection.send_packed_command(packed)
            replies: list[Any] = []
            for _ in trip.commands:
                if trip.asking:
                    await self._read(connection)
                replies.append(await self._read(connection))
                if _is_loading(replies[-1]):  # redis-py has closed the connection
                    return replies * len(trip.commands)
            broken = _must_reopen(replies)
            return replies
        except _FAILURES as err:
            raise TripFailed(err, sent) from err
        finally:  # also after a cancellation: unread replies must not stay
            await self._release(pool, connection, broken)

    @staticmethod
    async def _read(connection: Any) -> Any:
        try:
            return await connection.read_response(disable_decoding=True)
        except (redis.exceptions.ResponseError, redis.exceptions.BusyLoadingError) as err:
            return _server_error(err)
