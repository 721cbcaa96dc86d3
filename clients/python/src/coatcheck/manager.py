"""The classes for applications: Manager and AsyncManager.

Methods that talk to the store are those that an AsyncManager awaits.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import Any, AsyncIterator, Coroutine, Iterator, Sequence, TypeVar

import redis
import redis.asyncio
from redis.asyncio.cluster import ClusterNode as AsyncClusterNode
from redis.cluster import ClusterNode

from . import record
from .config import Config
from .core import Core
from .datastore import DataStore
from .errors import Invalid, NotFound, Sealed
from .http import Request
from .login import SessionInfo, info_of, user_bytes, user_text
from .session import AsyncSession, AsyncUserData, Session, UserData
from .store import Replicas
from .tokens import KeyRing, owner_of, parse_handle
from .userdata import DataEditor
from .wire import AsyncWire, Flow, SyncWire

T = TypeVar("T")
_PAGE = 100
_REPEAT_EVERY = 0.25  # seconds


class _BaseManager:
    def __init__(self, cluster: bool, config: Config | None, replicas: Replicas | None) -> None:
        self.config = (config or Config()).checked()
        self.clock = time.time  # replaced in tests; only the times of a Login come from it
        self.ring = KeyRing(self.config.keys, self.config.unsigned_until)
        self.store = DataStore(self.config.namespace, cluster, self.config.commit_timeout)
        if replicas:
            self.store.replicas = replicas

    def core(self, request: Request) -> Core:
        return Core(self.store, self.config, self.ring, request, self.clock)

    def _owner(self, user: str | bytes) -> str:
        return owner_of(self.config.user_key, user_bytes(user))

    def _longest(self) -> int:
        return round(max(self.config.lifetime, self.config.max_remember) * 1000)

    def _revoke(self, user: str | bytes, handle: str) -> Flow[None]:
        try:
            owner, handle = self._owner(user), parse_handle(handle)
        except Invalid as err:
            raise NotFound(str(err)) from None
        yield from self.store.revoke(owner, handle)

    def _revoke_user(self, user: str | bytes, keep: Sequence[str]) -> Flow[int]:
        owner, kept = self._owner(user), [parse_handle(h) for h in keep]
        if len(kept) > 100:
            raise Invalid("at most 100 handles to keep")
        return (yield from self.store.revoke_user(owner, kept, self._longest()))

    def _data(self, user: str | bytes) -> DataEditor:
        return DataEditor(self.store, self.config, self.ring, self._owner(user))

    def _delete_user(self, user: str | bytes) -> Flow[int]:
        data = self._data(user)
        n = yield from self._revoke_user(user, ())
        yield from data.empty()
        return n

    def _page(
        self, user: str | bytes, after: tuple[int, str] | None
    ) -> Flow[tuple[list[SessionInfo], tuple[int, str] | None]]:
        owner = self._owner(user)
        found, after = yield from self.store.list_page(owner, after, _PAGE)
        return [self._listed(handle, r, user) for handle, r in found], after

    def _listed(self, handle: str, r: record.Record, user: str | bytes) -> SessionInfo:
        info = None
        try:
            if r.user:
                info = record.decode_info(self.ring.open(r.id, "@i", r.user.info))
        except (Sealed, record.Malformed) as err:
            self.config.logger.error("session %s is listed without its sealed parts: %s", handle, err)
        return info_of(handle, r, info, user_text(user_bytes(user)))


class Manager(_BaseManager):
    """Manages the sessions of an application on redis.Redis or redis.RedisCluster.

    Create one per process. It is safe for threads, and after fork: each process gets connections
    of its own. The client must have a socket_timeout: `open` sets one.
    """

    def __init__(
        self, client: Any, config: Config | None = None, replicas: Replicas | None = None
    ) -> None:
        self.wire = SyncWire(client)
        super().__init__(self.wire.cluster, config, replicas)
        self._repeater: threading.Thread | None = None
        self._repeater_pid = 0
        self._closed = threading.Event()

    @staticmethod
    def open(
        url: str, config: Config | None = None, replicas: Replicas | None = None, **options: Any
    ) -> Manager:
        """Opens redis://, rediss://, unix://, or redis-cluster://host:port,host:port.

        The options are those of redis.Redis. With `replicas`, ends wait for them.
        """
        client = _open(url, redis.Redis, redis.RedisCluster, ClusterNode, replicas, options)
        return Manager(client, config, replicas)

    def session(self, request: Request) -> Session:
        """Returns the session of a request. It is not read yet: call load."""
        return Session(self.core(request), self)

    def run(self, flow: Flow[T]) -> T:
        try:
            return self.wire.run(flow)
        finally:
            if len(self.store.ends):
                self._repeat()

    def sessions(self, user: str | bytes) -> Iterator[SessionInfo]:
        """Yields the user's sessions, the newest first. Reads pages of 100."""
        after = None
        while True:
            page, after = self.run(self._page(user, after))
            yield from page
            if after is None:
                return

    def revoke(self, user: str | bytes, handle: str) -> None:
        """Ends one session of the user. Raises NotFound."""
        self.run(self._revoke(user, handle))

    def revoke_user(self, user: str | bytes, keep: Sequence[str] = ()) -> int:
        """Ends the user's sessions but those with a handle in keep. Returns how many.

        A sign-in that began before fails with Revoked: it may have checked the old password.
        """
        return self.run(self._revoke_user(user, keep))

    def user_data(self, user: str | bytes) -> UserData:
        """Reads the data of a user, for a worker that has no session. Its commit stores changes.

        Raises Invalid, Unavailable and Sealed. See Session.user_data.
        """
        data = self._data(user)
        self.run(data.load())
        return UserData(data, self, user_text(user_bytes(user)))

    def delete_user(self, user: str | bytes) -> int:
        """Ends the user's sessions, as revoke_user does, and then empties the user's data.

        Returns how many sessions it ended. A request that found its session alive before the call
        may still store a change a moment later: to be sure, call it again after
        Config.commit_timeout. Call it again after an error, too.
        """
        return self.run(self._delete_user(user))

    def revoke_everybody(self) -> None:
        """Ends every session, for an incident."""
        self.run(self.store.revoke_everybody())

    def close(self) -> None:
        """Stops the thread that repeats ends, and closes the connections, but not the client.

        Call it after the last request. It waits for a repetition that has begun.
        """
        self._closed.set()
        self.store.ends.stopped = True
        if self._repeater and self._repeater_pid == os.getpid() and self._repeater.is_alive():
            self._repeater.join()
        self.wire.close()

    def _repeat(self) -> None:
        # A forked process has no threads: it starts its own.
        if self._repeater_pid == os.getpid() and self._repeater and self._repeater.is_alive():
            return
        if self._closed.is_set():
            return
        self._repeater_pid = os.getpid()
        self._repeater = threading.Thread(target=self._repeat_ends, name="coatcheck", daemon=True)
        try:
            self._repeater.start()
        except RuntimeError:  # at the end of the interpreter
            pass

    def _repeat_ends(self) -> None:
        while len(self.store.ends) and not self._closed.wait(_REPEAT_EVERY):
            try:
                self.wire.run(self.store.repeat_ends())
            except Exception as err:
                self.config.logger.error("ends were not repeated: %s", err)


class AsyncManager(_BaseManager):
    """Manager for redis.asyncio.Redis or redis.asyncio.RedisCluster, on one event loop."""

    def __init__(
        self, client: Any, config: Config | None = None, replicas: Replicas | None = None
    ) -> None:
        self.wire = AsyncWire(client)
        super().__init__(self.wire.cluster, config, replicas)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._repeater: asyncio.Task[None] | None = None

    @staticmethod
    def open(
        url: str, config: Config | None = None, replicas: Replicas | None = None, **options: Any
    ) -> AsyncManager:
        """See Manager.open."""
        single, cluster = redis.asyncio.Redis, redis.asyncio.RedisCluster
        client = _open(url, single, cluster, AsyncClusterNode, replicas, options)
        return AsyncManager(client, config, replicas)

    def session(self, request: Request) -> AsyncSession:
        """Returns the session of a request. It is not read yet: await load."""
        return AsyncSession(self.core(request), self)

    async def run(self, flow: Flow[T]) -> T:
        try:
            return await self.wire.run(flow)
        finally:
            if len(self.store.ends) and not self.store.ends.stopped:
                if self._repeater is None or self._repeater.done():
                    self._repeater = self._spawn(self._repeat_ends())

    async def shielded(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Awaits a coroutine that goes on if the caller is cancelled."""
        return await asyncio.shield(self._spawn(coroutine))

    def _spawn(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def sessions(self, user: str | bytes) -> AsyncIterator[SessionInfo]:
        """See Manager.sessions."""
        after = None
        while True:
            page, after = await self.run(self._page(user, after))
            for info in page:
                yield info
            if after is None:
                return

    async def revoke(self, user: str | bytes, handle: str) -> None:
        """See Manager.revoke."""
        await self.shielded(self.run(self._revoke(user, handle)))

    async def revoke_user(self, user: str | bytes, keep: Sequence[str] = ()) -> int:
        """See Manager.revoke_user."""
        return await self.shielded(self.run(self._revoke_user(user, keep)))

    async def user_data(self, user: str | bytes) -> AsyncUserData:
        """See Manager.user_data."""
        data = self._data(user)
        await self.run(data.load())
        return AsyncUserData(data, self, user_text(user_bytes(user)))

    async def delete_user(self, user: str | bytes) -> int:
        """See Manager.delete_user."""
        return await self.shielded(self.run(self._delete_user(user)))

    async def revoke_everybody(self) -> None:
        """See Manager.revoke_everybody."""
        await self.shielded(self.run(self.store.revoke_everybody()))

    async def close(self) -> None:
        """Stops repeating ends, and closes the client.

        Call it after the last request. It waits for calls that go on after a client hung up.
        """
        self.store.ends.stopped = True
        if self._repeater:
            self._repeater.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self.wire.close()

    async def _repeat_ends(self) -> None:
        while len(self.store.ends):
            await asyncio.sleep(_REPEAT_EVERY)
            try:
                # Before Python 3.12, the asyncio.wait_for in redis-py can swallow a cancellation.
                # Then only this repetition would go on, and not the loop.
                await self.shielded(self.wire.run(self.store.repeat_ends()))
            except Exception as err:
                self.config.logger.error("ends were not repeated: %s", err)


def _open(
    url: str, single: Any, cluster: Any, node: Any, replicas: Replicas | None, options: dict[str, Any]
) -> Any:
    timeout = max(2, replicas.timeout + 1) if replicas else 2
    options = {"socket_timeout": timeout, "socket_connect_timeout": 1, **options}
    scheme, _, rest = url.partition("://")
    if scheme not in ("redis-cluster", "rediss-cluster"):
        return single.from_url(url, **options)
    nodes = []
    for address in rest.rstrip("/").split(","):
        host, _, port = address.rpartition(":")
        nodes.append(node(host, int(port)))
    if scheme == "rediss-cluster":
        options["ssl"] = True
    return cluster(startup_nodes=nodes, **options)
