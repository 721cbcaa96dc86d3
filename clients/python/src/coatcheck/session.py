"""The classes for applications: Session and AsyncSession.

Methods that talk to the store are those that an AsyncSession awaits. The others never wait.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from .core import Core
from .login import Login, SessionInfo, info_of, user_text
from .view import Op
from .wire import Flow

if TYPE_CHECKING:
    from .manager import AsyncManager, Manager

T = TypeVar("T")


class BaseSession:
    """What both kinds of session have: nothing here talks to the store."""

    def __init__(self, core: Core) -> None:
        self.core = core

    @property
    def user(self) -> str:
        """The id of who is signed in; "" if nobody is."""
        info = self.core.info
        return user_text(info.user) if info else ""

    @property
    def info(self) -> SessionInfo:
        """Describes the session as it was when it was last read or committed."""
        r = self.core.record
        return info_of(self.core.handle(), r, self.core.info) if r else SessionInfo()

    @property
    def is_bearer(self) -> bool:
        """Whether the token came in the Authorization header, and not in a cookie."""
        return self.core.cred.in_header

    def clear(self) -> None:
        """Unsets all fields."""
        self.core.change(Op("clear"))

    def discard(self) -> None:
        """Drops the changes that are not committed: call it before the response to an error."""
        with self.core.lock:
            self.core.discard()

    def check_csrf(self, token: str) -> None:
        """Raises CSRF if the token is not one of csrf_token for this session."""
        self.core.check_csrf(token)


class Session(BaseSession):
    """One request's view of a visitor's session, with the changes that the request made.

    Threads of the request may share it. A call that talks to the store makes the others wait.
    """

    def __init__(self, core: Core, manager: Manager) -> None:
        super().__init__(core)
        self._manager = manager

    def run(self, flow: Flow[T]) -> T:
        with self.core.lock:
            return self._manager.run(flow)

    def load(self) -> Session:
        """Reads the session, once. Raises Unavailable, Ambiguous or Sealed.

        An unknown visitor gets an empty session, which is stored with the first change.
        """
        self.run(self.core.load())
        return self

    def reload(self) -> None:
        """Drops the changes, and reads the session again. Raises Ended if it has ended."""
        self.run(self.core.reload())

    def commit(self) -> None:
        """Stores the changes in one step. Afterwards the view has others' changes, too.

        Raises Ended, Unavailable, UnknownOutcome, HeaderSent, CrossOrigin, and what a change did
        wrong: TooLarge, Invalid, Decode, Sealed. After an error the session takes no changes.
        """
        self.run(self.core.commit())

    def renew(self) -> None:
        """Changes the token, when a user's privileges change. The old token is dead at once."""
        self.run(self.core.renew())

    def sign_in(self, login: Login) -> None:
        """Makes login.user the session's user, under a new token. It commits.

        An anonymous session keeps the fields of Config.keep_fields, one of the same user all, one
        of another user none. Raises TooMany, Revoked, Invalid, and the errors of commit.
        """
        self.run(self.core.sign_in(login))

    def sign_out(self) -> None:
        """Ends the session, for all requests. Works without load.

        Raises Ended if a sign-in in another request replaced the session. Raises Unavailable if
        the server did not answer; the response deletes the cookie nevertheless.
        """
        self.run(self.core.sign_out())

    def csrf_token(self) -> str:
        """Returns a CSRF token. It stores a session that is not stored yet."""
        return self.run(self.core.csrf_token())

    def bearer_token(self) -> str:
        """Returns the token, for a client that sends it as "Authorization: Bearer"."""
        return self.run(self.core.bearer_token())


class AsyncSession(BaseSession):
    """Session for asyncio. Tasks of the request may share it; their calls take turns.

    A call that was begun goes on if its task is cancelled, because a client hung up.
    """

    def __init__(self, core: Core, manager: AsyncManager) -> None:
        super().__init__(core)
        self._manager = manager
        self._turn = asyncio.Lock()

    async def run(self, flow: Flow[T]) -> T:
        return await self._manager.shielded(self._in_turn(flow))

    async def _in_turn(self, flow: Flow[T]) -> T:
        async with self._turn:
            return await self._manager.run(flow)

    async def load(self) -> AsyncSession:
        """See Session.load."""
        await self.run(self.core.load())
        return self

    async def reload(self) -> None:
        """See Session.reload."""
        await self.run(self.core.reload())

    async def commit(self) -> None:
        """See Session.commit."""
        await self.run(self.core.commit())

    async def renew(self) -> None:
        """See Session.renew."""
        await self.run(self.core.renew())

    async def sign_in(self, login: Login) -> None:
        """See Session.sign_in."""
        await self.run(self.core.sign_in(login))

    async def sign_out(self) -> None:
        """See Session.sign_out."""
        await self.run(self.core.sign_out())

    async def csrf_token(self) -> str:
        """See Session.csrf_token."""
        return await self.run(self.core.csrf_token())

    async def bearer_token(self) -> str:
        """See Session.bearer_token."""
        return await self.run(self.core.bearer_token())
