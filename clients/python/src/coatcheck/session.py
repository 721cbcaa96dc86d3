"""The classes for applications: Session and UserData, AsyncSession and AsyncUserData.

Methods that talk to the store are those that the classes for asyncio await. The others never wait.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from .core import Core
from .editing import Editor
from .login import Login, SessionInfo, info_of, user_text
from .userdata import DataEditor
from .view import Op
from .wire import Flow

if TYPE_CHECKING:
    from .manager import AsyncManager, Manager

T = TypeVar("T")


class BaseFields:
    """What has fields: a session, or the data of a user. Nothing here talks to the store."""

    def __init__(self, core: Editor) -> None:
        self.core = core

    def clear(self) -> None:
        """Unsets all fields."""
        self.core.change(Op("clear"))

    def discard(self) -> None:
        """Drops the changes that are not committed: call it before the response to an error."""
        with self.core.lock:
            self.core.discard()


class SyncFields(BaseFields):
    """A Session or UserData.

    Threads of a request may share it. A call that talks to the store makes the others wait.
    """

    def __init__(self, core: Editor, manager: Manager) -> None:
        super().__init__(core)
        self._manager = manager

    def run(self, flow: Flow[T]) -> T:
        with self.core.lock:
            return self._manager.run(flow)

    def commit(self) -> None:
        """Stores the changes in one step. Afterwards the view has others' changes, too.

        Raises Ended, Unavailable, UnknownOutcome, HeaderSent, CrossOrigin, and what a change did
        wrong: TooLarge, Invalid, Decode, Sealed. After an error the session takes no changes.
        """
        self.run(self.core.commit())


class AsyncFields(BaseFields):
    """An AsyncSession or AsyncUserData.

    Tasks of a request may share it. Calls that talk to the store take turns. A call that was begun goes on if its task is cancelled, because a client hung up.
    """

    def __init__(self, core: Editor, manager: AsyncManager, turn: asyncio.Lock | None = None) -> None:
        super().__init__(core)
        self._manager = manager
        self._turn = turn or asyncio.Lock()

    async def run(self, flow: Flow[T]) -> T:
        return await self._manager.shielded(self._in_turn(flow))

    async def _in_turn(self, flow: Flow[T]) -> T:
        async with self._turn:
            return await self._manager.run(flow)

    async def commit(self) -> None:
        """See Session.commit."""
        await self.run(self.core.commit())


class BaseSession(BaseFields):
    """What both kinds of session have, and user data has not. Nothing here talks to the store."""

    core: Core

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

    def check_csrf(self, token: str) -> None:
        """Raises CSRF if the token is not one of csrf_token for this session."""
        self.core.check_csrf(token)


class Session(SyncFields, BaseSession):
    """One request's view of a visitor's session, with the changes that the request made.

    Threads of the request may share it. A call that talks to the store makes the others wait.
    """

    core: Core
    _data: UserData | None = None

    def load(self) -> Session:
        """Reads the session, once. Raises Unavailable, Ambiguous or Sealed.

        An unknown visitor gets an empty session, which is stored with the first change.
        """
        self.run(self.core.load())
        return self

    def reload(self) -> None:
        """Drops the changes, and reads the session again. Raises Ended if it has ended."""
        self.run(self.core.reload())

    def renew(self) -> None:
        """Changes the token, when a user's privileges change. The old token is dead at once."""
        self.run(self.core.renew())

    def sign_in(self, login: Login) -> None:
        """Makes login.user the session's user, under a new token. It commits.

        An anonymous session keeps the fields of Config.keep_fields, one of the same user all, one
        of another user none. The fields of Config.user_fields of an anonymous session join the data
        of the user: see user_data. Raises TooMany, Revoked, Invalid, and the errors of commit.
        """
        self.run(self.core.sign_in(login))

    def sign_out(self) -> None:
        """Ends the session, for all requests. Works without load.

        Raises Ended if a sign-in in another request replaced the session. Raises Unavailable if
        the server did not answer; the response deletes the cookie nevertheless.
        """
        self.run(self.core.sign_out())

    def user_data(self) -> Session | UserData:
        """Returns the data of the user who is signed in: fields that all sessions of a user share.

        While nobody is signed in, it returns the session itself, so that a page is written once.
        The first call of a request reads the data. If the session holds Config.user_fields from
        before the sign-in, it moves them to the user's data, in one atomic step: counts are added,
        and other values replace those of the user.

        The changes are committed after those of the session, or by commit of the data. A change
        reads the session again, and raises Ended if it has ended. Revocations do not change the
        data: see Manager.delete_user. It is deleted after Config.user_data_timeout without use.

        Raises the errors of load, Ended, and TooLarge, Invalid or Decode if the fields of the
        session do not fit: they stay in the session until it ends.
        """
        data = self.run(self.core.user_data())
        if data is None:
            return self
        if self._data is None or self._data.core is not data:
            self._data = UserData(data, self._manager, self.user)
        return self._data

    def csrf_token(self) -> str:
        """Returns a CSRF token. It stores a session that is not stored yet."""
        return self.run(self.core.csrf_token())

    def bearer_token(self) -> str:
        """Returns the token, for a client that sends it as "Authorization: Bearer"."""
        return self.run(self.core.bearer_token())


class AsyncSession(AsyncFields, BaseSession):
    """Session for asyncio. Tasks of the request may share it; their calls take turns.

    A call that was begun goes on if its task is cancelled, because a client hung up.
    """

    core: Core
    _data: AsyncUserData | None = None

    async def load(self) -> AsyncSession:
        """See Session.load."""
        await self.run(self.core.load())
        return self

    async def reload(self) -> None:
        """See Session.reload."""
        await self.run(self.core.reload())

    async def renew(self) -> None:
        """See Session.renew."""
        await self.run(self.core.renew())

    async def sign_in(self, login: Login) -> None:
        """See Session.sign_in."""
        await self.run(self.core.sign_in(login))

    async def sign_out(self) -> None:
        """See Session.sign_out."""
        await self.run(self.core.sign_out())

    async def user_data(self) -> AsyncSession | AsyncUserData:
        """See Session.user_data."""
        data = await self.run(self.core.user_data())
        if data is None:
            return self
        if self._data is None or self._data.core is not data:
            self._data = AsyncUserData(data, self._manager, self.user, self._turn)
        return self._data

    async def csrf_token(self) -> str:
        """See Session.csrf_token."""
        return await self.run(self.core.csrf_token())

    async def bearer_token(self) -> str:
        """See Session.bearer_token."""
        return await self.run(self.core.bearer_token())


class UserData(SyncFields):
    """The data of a user. Its fields are read, changed and committed as those of a session.

    Session.user_data and Manager.user_data return it. A change that needs a session, such as a
    sign-in, is made on the session.
    """

    core: DataEditor

    def __init__(self, core: DataEditor, manager: Manager, user: str) -> None:
        super().__init__(core, manager)
        self.user = user

    def reload(self) -> None:
        """Drops the changes, and reads the data again."""
        self.run(self.core.reload())


class AsyncUserData(AsyncFields):
    """UserData for asyncio."""

    core: DataEditor

    def __init__(
        self, core: DataEditor, manager: AsyncManager, user: str, turn: asyncio.Lock | None = None
    ) -> None:
        super().__init__(core, manager, turn)
        self.user = user

    async def reload(self) -> None:
        """See UserData.reload."""
        await self.run(self.core.reload())
