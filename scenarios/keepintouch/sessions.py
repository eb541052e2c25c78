"""The texts by which onboarding sessions are known.

A user's session is known by its id.  An anonymous one is known by id and secret, of
which only a hash is stored: knowing the id alone gives nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import uuid
from dataclasses import dataclass

__all__ = ["SessionToken"]


@dataclass(frozen=True, slots=True)
class SessionToken:
    """A session's id, and the secret of an anonymous one ('' without)."""

    id: str
    secret: str = ""

    @classmethod
    def new(cls, *, anonymous: bool) -> SessionToken:
        """Return the token of a new session."""
        secret = secrets.token_urlsafe(32) if anonymous else ""
        return cls(str(uuid.uuid4()), secret)

    @classmethod
    def parse(cls, text: str) -> SessionToken | None:
        """Read a token, ``None`` for a text that is none."""
        identifier, _, secret = text.partition(".")
        try:
            return cls(str(uuid.UUID(identifier)), secret)
        except ValueError:
            return None

    @property
    def secret_hash(self) -> str | None:
        """What is stored of the secret."""
        if not self.secret:
            return None
        return hashlib.sha256(self.secret.encode()).hexdigest()

    def opens(self, stored_hash: str | None) -> bool:
        """Tell whether this token belongs to a session with ``stored_hash``."""
        if stored_hash is None:
            return not self.secret
        return hmac.compare_digest(self.secret_hash or "", stored_hash)

    def __str__(self) -> str:
        return f"{self.id}.{self.secret}" if self.secret else self.id
