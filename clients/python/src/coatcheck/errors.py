"""The errors of the package. They have the names and HTTP statuses of the other languages.

The text of an error names the field and the cause. It is for the log. Send clients `status` and
`message`, which do not tell the cause.
"""

from __future__ import annotations


class SessionError(Exception):
    """The base class of all errors of this package."""

    status = 500
    message = "Something went wrong. The error has been logged."


class Unavailable(SessionError):
    """The server did not answer, or the stored record is malformed.

    Nothing was stored, unless the error is an UnknownOutcome.
    """

    status = 503
    message = "The service is not available at the moment. Please try again."


class UnknownOutcome(Unavailable):
    """The server did not answer after a change was sent. The change may have been stored."""

    message = (
        "It is not known whether your change was saved. Please check before you try again."
    )


class ReplicaError(UnknownOutcome):
    """An end is made, but fewer replicas than `replicas` acknowledged it in time.

    A failover to another replica could undo it. This process would repeat it then.
    """

    def __init__(self, want: int, got: int, why: str = "") -> None:
        super().__init__(f"the end is made, but {got} of {want} replicas acknowledged it in time{why}")
        self.want, self.got = want, got


class Ended(SessionError):
    """The session ended, or got a new token, while the request was running."""

    status = 409
    message = "Your session has changed. Please reload and try again."


class HeaderSent(SessionError):
    """The change needs a new cookie, but the response header has left. Nothing was stored."""


class TooLarge(SessionError):
    """The session would exceed Config.max_size or a limit of the format."""


class Limit(SessionError):
    """add_within or set_within was refused. Nothing was changed, and the session takes changes."""

    status = 409
    message = "This is more than allowed. Nothing was changed."


class Invalid(SessionError):
    """A name, a value, a sum, a login, a user or a handle is not valid."""


class Decode(SessionError):
    """The stored value has another type than the field that reads it."""


class Sealed(SessionError):
    """The stored value is sealed, and no key of Config.keys opens it."""


class Ambiguous(SessionError):
    """The request carries two different tokens."""

    status = 400
    message = (
        "The request carries two different session tokens. Please delete this site's cookies."
    )


class CrossOrigin(SessionError):
    """Another site caused the request."""

    status = 403
    message = "Cross-origin request refused."


class CSRF(SessionError):
    """The request has no CSRF token of its session."""

    status = 403
    message = "This page is out of date. Please reload it and try again."


class NotSignedIn(SessionError):
    """Nobody is signed in."""

    status = 401
    message = "Please sign in."


class TooMany(SessionError):
    """The user has as many sessions as Config.max_per_user allows."""

    status = 409
    message = "You are signed in on as many devices as allowed. Please sign out on one of them."


class Revoked(SessionError):
    """The user's sessions were revoked after this authentication began."""

    status = 401
    message = "Please sign in again."


class NotFound(SessionError):
    """The user has no session with this handle."""

    status = 404
    message = "There is no such session."
