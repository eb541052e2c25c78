"""Passwords: what is strong enough, and bcrypt, which is slow on purpose.

Hashing and checking run in threads of their own, so that neither the event loop nor
the pool that Storage writes its files with waits for them.  Hashes are bcrypt's
modular format, as ``crypt(password, gen_salt('bf'))`` makes them in SQL.
"""

from __future__ import annotations

import asyncio
import os
import re
import string
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import bcrypt

from harness.servers.auth.refusals import Refusal
from harness.servers.auth.settings import AuthSettings

__all__ = ["PasswordHasher", "is_hash", "require_short", "require_strong", "weakness"]

LIMIT_BYTES = 72  # bcrypt reads no further
SYMBOLS = "!@#$%^&*()_+-=[]{};'\\:\"|<>?,./`~"
BCRYPT_HASH = re.compile(r"\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}")

CHARACTER_CLASSES: Mapping[str, tuple[str, ...]] = {
    "": (),
    "letters_digits": (string.ascii_letters, string.digits),
    "lower_upper_letters_digits": (
        string.ascii_lowercase,
        string.ascii_uppercase,
        string.digits,
    ),
    "lower_upper_letters_digits_symbols": (
        string.ascii_lowercase,
        string.ascii_uppercase,
        string.digits,
        SYMBOLS,
    ),
}


class PasswordHasher:
    """bcrypt off the event loop, at one cost."""

    def __init__(self, cost: int) -> None:
        self._cost = cost
        self._threads = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="bcrypt")
        self._decoy = ""

    async def hash(self, password: str) -> str:
        """Return the hash of a password of at most 72 bytes."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, _hash, password, self._cost)

    async def matches(self, password: str, hashed: str | None) -> bool:
        """Tell whether ``password`` is the one behind ``hashed``.

        Without a usable hash the answer is no and takes as long, so that the time does
        not tell which addresses have an account.
        """
        loop = asyncio.get_running_loop()
        known = hashed is not None and is_hash(hashed)
        if not known and not self._decoy:
            self._decoy = await self.hash("decoy")
        against = hashed if known and hashed else self._decoy
        same = await loop.run_in_executor(self._threads, _matches, password, against)
        return known and same

    def close(self) -> None:
        """Let the threads go; what they compute is lost."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def is_hash(text: str) -> bool:
    """Tell whether ``text`` is a bcrypt hash."""
    return BCRYPT_HASH.fullmatch(text) is not None


def require_strong(password: str, settings: AuthSettings) -> None:
    """Raise the official refusal of a password that is too long or too weak."""
    require_short(password)
    sentences, reasons = weakness(password, settings)
    if reasons:
        raise Refusal(
            422,
            "weak_password",
            " ".join(sentences),
            extra={"weak_password": {"reasons": reasons}},
        )


def require_short(password: str) -> None:
    """Raise the official refusal of a password that bcrypt would cut."""
    if len(password.encode()) > LIMIT_BYTES:
        raise Refusal(
            400,
            "validation_failed",
            f"Password cannot be longer than {LIMIT_BYTES} characters",
        )


def weakness(password: str, settings: AuthSettings) -> tuple[list[str], list[str]]:
    """Return (sentences, reason codes) of what is weak about ``password``."""
    sentences, reasons = [], []
    if len(password) < settings.minimum_password_length:
        least = settings.minimum_password_length
        sentences.append(f"Password should be at least {least} characters.")
        reasons.append("length")
    wanted = CHARACTER_CLASSES[settings.password_requirements]
    if not all(set(password) & set(characters) for characters in wanted):
        listed = ", ".join(wanted)
        sentences.append(
            f"Password should contain at least one character of each: {listed}."
        )
        reasons.append("characters")
    return sentences, reasons


def _hash(password: str, cost: int) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode("ascii")


def _matches(password: str, hashed: str) -> bool:
    # Longer passwords were cut when they were hashed, in SQL for one.
    given = password.encode()[:LIMIT_BYTES]
    return bcrypt.checkpw(given, hashed.encode("ascii"))
