"""Exceptions of the client.

Two families, both under :class:`RethreadError`:

* :class:`ServerError`: the server answered with an error. One subclass per error code of the
  wire contract; a code this client does not know is raised as ``ServerError`` itself, with its
  code kept. The connection stays usable unless the server closed it.
* :class:`TransportError`: no answer that could be trusted was had. What the server did with the
  request is unknown; append with an idempotency ``key`` where that matters.

No message holds payload bytes or thread ids.
"""

from __future__ import annotations

from typing import Any, ClassVar, Mapping


class RethreadError(Exception):
    """Anything this package raises on its own account."""


class TransportError(RethreadError):
    """The request had no trustworthy answer."""


class ConnectError(TransportError):
    """No connection could be made within ``connect_timeout``."""


class ConnectionLost(TransportError):
    """The connection ended while the request was in flight."""


class RequestTimeout(TransportError):
    """No answer within ``request_timeout`` seconds; a late one is dropped."""


class ProtocolError(TransportError):
    """The peer sent bytes that the wire contract does not allow; the connection is closed."""


class ServerError(RethreadError):
    """An error response.

    ``code``: the contract's error code. ``message``: prose for people, not for matching.
    ``details``: every other field of the error map.
    """

    CODE: ClassVar[str] = ""

    def __init__(self, code: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.message = message
        self.details: dict[str, Any] = dict(details or {})


class BadRequest(ServerError):
    """An option is unknown, of a wrong type, out of range or contradicts another."""

    CODE = "bad_request"


class UnknownMethod(ServerError):
    """The server does not know the method."""

    CODE = "unknown_method"


class TooLarge(ServerError):
    """A frame is larger than the server's ``frame_max``; the server closes the connection."""

    CODE = "too_large"


class NotFound(ServerError):
    """Fork or rewind of a thread that is not there."""

    CODE = "not_found"

    @property
    def reason(self) -> str | None:
        """Why it is not there: a reason of the contract, such as ``never_seen``."""
        value = self.details.get("reason")
        return value if isinstance(value, str) else None


class Conflict(ServerError):
    """``expect`` or ``key`` did not match, the thread exists, or another append is under way."""

    CODE = "conflict"

    @property
    def version(self) -> int | None:
        """The version that the thread has."""
        value = self.details.get("version")
        return value if isinstance(value, int) else None

    @property
    def cause(self) -> str | None:
        """``version``, ``key``, ``exists`` or ``claimed``."""
        value = self.details.get("cause")
        return value if isinstance(value, str) else None


class Unauthorized(ServerError):
    """The credential is missing or does not allow this."""

    CODE = "unauthorized"


class OverBudget(ServerError):
    """The memory budget has no room for the request."""

    CODE = "over_budget"


class ReadOnly(ServerError):
    """The server cannot store at the moment."""

    CODE = "read_only"


class Busy(ServerError):
    """The thread or the server is too busy; trying again later is sound."""

    CODE = "busy"


class ShuttingDown(ServerError):
    """The server is draining."""

    CODE = "shutting_down"


class Internal(ServerError):
    """The server failed on its own account."""

    CODE = "internal"


BY_CODE: dict[str, type[ServerError]] = {
    cls.CODE: cls
    for cls in (
        BadRequest, UnknownMethod, TooLarge, NotFound, Conflict, Unauthorized,
        OverBudget, ReadOnly, Busy, ShuttingDown, Internal,
    )
}


def server_error(fields: Mapping[str, Any]) -> ServerError:
    """The exception for an error map ``{code, message, ...}``."""
    details = dict(fields)
    code = details.pop("code", None)
    message = details.pop("message", None)
    code = code if isinstance(code, str) else "unknown"
    message = message if isinstance(message, str) else ""
    return BY_CODE.get(code, ServerError)(code, message, details)
