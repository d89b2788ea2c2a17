"""Refused requests: each with a status, a code and a message, as JSON."""

from __future__ import annotations

from typing import ClassVar

from ...errors import JobPushError


class Refusal(JobPushError):
    """A request is refused; ``remedy`` is for the log."""

    status: ClassVar[int]
    remedy = ""


class BadRequest(Refusal):
    """A request lacks a field, or a field is invalid."""

    code = "bad_request"
    status = 400


class NotSignedIn(Refusal):
    """A request needs a user and has none."""

    code = "not_signed_in"
    status = 401
    remedy = "Sign in first, or check what user_loader returns."

    def __init__(self, *, has_loader: bool, has_failed: bool = False) -> None:
        if has_failed:
            super().__init__("nobody is signed in: user_loader failed, see the log of the gateway")
        elif has_loader:
            super().__init__("nobody is signed in: user_loader returned None, and there is no token")
        else:
            super().__init__("no user: the gateway has no user_loader, and the request has no token")
            self.remedy = "Give Gateway(app, user_loader=…), or connect with a token from jobpush.token(user)."


class Forbidden(Refusal):
    """The request's user lacks the right to do this."""

    code = "forbidden"
    status = 403


class NoSockets(Refusal):
    """The web server does not let the hub serve connections; clients poll instead."""

    code = "no_sockets"
    status = 501


class RerunRefused(Refusal):
    """The application does not run this task again."""

    code = "rerun_refused"
    status = 409


class RerunFailed(Refusal):
    """The application's ``on_rerun`` raised an error."""

    code = "rerun_failed"
    status = 500
