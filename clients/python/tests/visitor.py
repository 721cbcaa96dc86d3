"""The requests of one visitor."""

from coatcheck import Manager, Request, Session


def new(manager: Manager) -> Session:
    """Returns the session of a visitor who has none yet."""
    return manager.session(Request("POST")).load()


def again(manager: Manager, session: Session) -> Session:
    """Returns the session in one more request of its visitor."""
    name = "__Host-session" if session.user else "__Host-session-anon"
    cookie = f"{name}={session.core.token.text(manager.ring)}"
    return manager.session(Request("POST", [cookie])).load()
