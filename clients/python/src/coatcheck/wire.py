"""Runs the flows of store.py on redis-py, synchronously or with asyncio.

A flow is a generator: it yields a step, and receives the result of the step. So the logic exists
once, and only this module differs between the two kinds.

Commands are sent on a connection of redis-py's pool, not with the commands of its clients. The
clients repeat a command whose connection broke, and an addition would count twice. The pool knows
the servers, TLS, passwords, Sentinel and fork; replies are bytes even with decode_responses=True.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Generator, Sequence, TypeVar

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.exceptions
import redis.sentinel
from redis.cluster import RedisCluster

T = TypeVar("T")
Command = tuple[Any, ...]


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


class ServerError(Exception):
    """The error that a server replied to a command. `address` is that of MOVED and ASK."""

    def __init__(self, code: str, text: str, address: tuple[str, int] | None = None) -> None:
        super().__init__(f"{code} {text}"[:300])
        self.code, self.address = code, address


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


def _packed(connection: Any, trip: Trip) -> Any:
    commands = trip.commands
    if trip.asking:
        commands = [c for command in commands for c in ((b"ASKING",), command)]
    return connection.pack_commands(commands)


def _is_loading(reply: Any) -> bool:
    return isinstance(reply, ServerError) and reply.code == "LOADING"


_POOLS = (redis.ConnectionPool, redis.asyncio.ConnectionPool)
_BLOCKING = (redis.BlockingConnectionPool, redis.asyncio.BlockingConnectionPool)
_SENTINEL = (redis.sentinel.SentinelConnectionPool, redis.asyncio.sentinel.SentinelConnectionPool)


def _own_pool(pool: Any) -> Any:
    """Returns a pool like that of a client, without retries, and with RESP2.

    By default, redis-py 6 and later repeat an attempt to connect for seconds. An outage should be
    quick. Returns the client's own pool if the passwords change, because redis-py sends them on the
    connections of that pool, and if the pool is of an unknown kind.
    """
    kind, options = type(pool), pool.connection_kwargs
    if kind not in _POOLS + _BLOCKING + _SENTINEL or options.get("credential_provider"):
        return pool
    options = {k: v for k, v in options.items() if "maint_" not in k and k != "connection_pool"}
    options.update(
        protocol=2, retry=None, retry_on_error=[], retry_on_timeout=False,
        max_connections=pool.max_connections, connection_class=pool.connection_class,
    )  # fmt: skip
    if kind in _BLOCKING:
        return kind(timeout=pool.timeout, **options)
    if kind in _SENTINEL:
        options.update(is_master=pool.is_master, check_connection=pool.check_connection)
        return kind(pool.service_name, pool.sentinel_manager, **options)
    return kind(**options)


def is_cluster(client: Any) -> bool:
    return isinstance(client, (RedisCluster, redis.asyncio.RedisCluster))


class SyncWire:
    """Runs flows on redis.Redis or redis.RedisCluster."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.cluster = is_cluster(client)
        self.pool: Any = None if self.cluster else _own_pool(client.connection_pool)

    def close(self) -> None:
        """Closes the connections. The client stays open."""
        if self.pool is not None and self.pool is not self.client.connection_pool:
            self.pool.disconnect()

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
            return self.pool
        if trip.address:
            node = self.client.get_node(host=trip.address[0], port=trip.address[1])
        else:
            node = self.client.get_node_from_key(trip.key)
        if node is None:
            raise redis.exceptions.ConnectionError("unknown node of the Cluster")
        return self.client.get_redis_connection(node).connection_pool

    def _trip(self, trip: Trip) -> list[Any]:
        sent = False
        try:
            pool = self._pool(trip)
            connection = pool.get_connection()
        except _FAILURES as err:
            raise TripFailed(err, sent) from err
        broken = True
        try:
            packed = _packed(connection, trip)
            sent = True
            connection.send_packed_command(packed)
            replies: list[Any] = []
            for _ in trip.commands:
                if trip.asking:
                    self._read(connection)
                replies.append(self._read(connection))
                if _is_loading(replies[-1]):  # redis-py has closed the connection
                    return replies * len(trip.commands)
            broken = _must_reopen(replies)
            return replies
        except _FAILURES as err:
            raise TripFailed(err, sent) from err
        finally:
            if broken:  # also if a signal interrupted the wait: unread replies must not stay
                connection.disconnect()
            pool.release(connection)

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
        self.pool: Any = None if self.cluster else _own_pool(client.connection_pool)

    async def close(self) -> None:
        """Closes the client and all connections."""
        if self.pool is not None:
            await self.pool.disconnect()
        await self.client.aclose()

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
            return self.pool, await self.pool.get_connection()
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
            packed = _packed(connection, trip)
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
