"""What the server refuses for reasons of its own, and the status that says so."""

from __future__ import annotations

from ..errors import CorrigendaError, InputError, LedgerError

__all__ = ["Busy", "Conflict", "Forbidden", "Unknown", "status_of"]


class Busy(CorrigendaError):
    """Too much waits already; the client is asked to come again: 503 with Retry-After."""


class Unknown(InputError):
    """There is no such thing: 404."""


class Conflict(CorrigendaError):
    """It cannot be done as things stand: 409."""


class Forbidden(CorrigendaError):
    """This server was started so that it may not: 403."""


_STATUS: tuple[tuple[type[CorrigendaError], int, str, str | None], ...] = (
    (Busy, 503, "server_error", "busy"),
    (Unknown, 404, "invalid_request_error", "not_found"),
    (Conflict, 409, "invalid_request_error", "conflict"),
    (Forbidden, 403, "permission_error", "read_only"),
    (LedgerError, 409, "invalid_request_error", "ledger"),
)


def status_of(error: CorrigendaError) -> tuple[int, str, str | None]:
    """(status, type, code) of an error that this package raises on purpose."""
    for kind, status, type, code in _STATUS:
        if isinstance(error, kind):
            return status, type, code
    return 400, "invalid_request_error", None
