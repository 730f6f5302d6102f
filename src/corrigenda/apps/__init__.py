"""Applications on top of the library: the command line. Nothing else imports from here."""

from __future__ import annotations

__all__: list[str] = []
