"""The ``[auth]`` settings of a project that this service follows, with their defaults.

Names and defaults are those of the Supabase CLI's ``config.toml``, with two exceptions
that suit a stack for tests: anonymous sign-ins are on unless the project says
otherwise, and of ``rate_limit`` only ``sign_in_sign_ups`` and ``token_refresh`` hold,
which count what failed: a suite may sign up and sign in as often as it likes.  No mail
is sent, so with ``enable_confirmations`` nobody but an administrator can confirm an
address.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.errors import ConfigError
from harness.servers.auth.hooks import Hooks

__all__ = ["AuthSettings"]

PASSWORD_REQUIREMENTS = (
    "",
    "letters_digits",
    "lower_upper_letters_digits",
    "lower_upper_letters_digits_symbols",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthSettings:
    """What may be set; durations are in seconds."""

    jwt_expiry_s: int = 3600
    jwt_issuer: str = ""
    enable_signup: bool = True
    enable_anonymous_sign_ins: bool = True
    email_enable_signup: bool = True
    enable_confirmations: bool = False
    minimum_password_length: int = 6
    password_requirements: str = ""
    refresh_token_rotation: bool = True
    refresh_token_reuse_interval_s: int = 10
    sign_ins_per_5_minutes: int = 30
    token_refreshes_per_5_minutes: int = 150
    password_hash_cost: int = 10
    hooks: Hooks = field(default_factory=Hooks)

    @classmethod
    def from_mapping(cls, auth: Mapping[str, Any]) -> AuthSettings:
        """Read a project's ``auth`` table; keys that do not concern us are passed by.

        Raises :class:`ConfigError` for a value of the wrong type or range.
        """
        email = _table(auth, "email")
        limits = _table(auth, "rate_limit")
        requirements = _text(auth, "password_requirements", "")
        if requirements not in PASSWORD_REQUIREMENTS:
            raise ConfigError(
                f"auth.password_requirements is not known: {requirements!r}",
                hint=f"one of {', '.join(PASSWORD_REQUIREMENTS[1:])}, or empty",
            )
        return cls(
            jwt_expiry_s=_whole(auth, "jwt_expiry", 3600, 1, 604800),
            jwt_issuer=_text(auth, "jwt_issuer", ""),
            enable_signup=_flag(auth, "enable_signup", True),
            enable_anonymous_sign_ins=_flag(auth, "enable_anonymous_sign_ins", True),
            email_enable_signup=_flag(email, "enable_signup", True),
            enable_confirmations=_flag(email, "enable_confirmations", False),
            minimum_password_length=_whole(auth, "minimum_password_length", 6, 1, 72),
            password_requirements=requirements,
            refresh_token_rotation=_flag(auth, "enable_refresh_token_rotation", True),
            refresh_token_reuse_interval_s=_whole(
                auth, "refresh_token_reuse_interval", 10, 0, 86400
            ),
            sign_ins_per_5_minutes=_whole(limits, "sign_in_sign_ups", 30, 1, 10**9),
            token_refreshes_per_5_minutes=_whole(
                limits, "token_refresh", 150, 1, 10**9
            ),
            password_hash_cost=_whole(auth, "password_hash_cost", 10, 4, 16),
            hooks=Hooks.of(_table(auth, "hook")),
        )


def _table(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = values.get(name, {})
    if not isinstance(value, Mapping):
        raise ConfigError(f"auth.{name} is not a table")
    return value


def _flag(values: Mapping[str, Any], name: str, default: bool) -> bool:
    value = values.get(name, default)
    if not isinstance(value, bool):
        raise ConfigError(f"auth.{name} is neither true nor false: {value!r}")
    return value


def _text(values: Mapping[str, Any], name: str, default: str) -> str:
    value = values.get(name, default)
    if not isinstance(value, str):
        raise ConfigError(f"auth.{name} is not text: {value!r}")
    return value


def _whole(
    values: Mapping[str, Any], name: str, default: int, least: int, most: int
) -> int:
    value = values.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"auth.{name} is not a whole number: {value!r}")
    if not least <= value <= most:
        raise ConfigError(f"auth.{name} is not between {least} and {most}: {value}")
    return value
