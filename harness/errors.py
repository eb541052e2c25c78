"""The whole exception tree: what can go wrong *in the harness*.

A wrong answer of the system under test is never an exception; it is a
:class:`harness.events.Finding`.  Fields hold facts, ``__str__`` makes the sentence::

    HarnessError
    +-- UsageError               the command line or an API call asks for nonsense
    +-- ConfigError              a configuration key or value is wrong
    +-- StackError               a service or server could not be started or lost
    |   +-- NotReadyError        it started but did not answer in time
    |   +-- PostgresNotFoundError  no usable PostgreSQL installation
    |   +-- ContainerError       Docker is absent, refused, or a container failed
    +-- MigrationError           a schema file could not be applied
    |   +-- ExtensionMissingError  it needs an extension this server lacks
    +-- ProtocolError
    |   +-- LocalProtocolError   our side broke the protocol
    |   +-- RemoteProtocolError  the peer broke the protocol
    +-- ReportError              a report folder is missing or broken
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "ContainerError",
    "ExtensionMissingError",
    "HarnessError",
    "LocalProtocolError",
    "MigrationError",
    "NotReadyError",
    "PostgresNotFoundError",
    "ProtocolError",
    "RemoteProtocolError",
    "ReportError",
    "StackError",
    "UsageError",
]


class HarnessError(Exception):
    """A fault of the harness or of what it runs on, with a hint where one helps.

    The process exit code is ``exit_code``: 3 for faults, 4 for wrong usage.
    """

    exit_code = 3

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class UsageError(HarnessError):
    """A name, option or argument that does not exist or does not fit."""

    exit_code = 4


class ConfigError(HarnessError):
    """A configuration key or value that is unknown or out of range."""

    exit_code = 4


class StackError(HarnessError):
    """A service of the stack failed; ``log_tail`` holds the last lines of its log."""

    def __init__(
        self,
        message: str,
        *,
        service: str | None = None,
        log_tail: str = "",
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.service = service
        self.log_tail = log_tail


class NotReadyError(StackError):
    """A service did not become ready; ``last_seen`` is what the last probe saw."""

    def __init__(
        self,
        service: str,
        *,
        waited_s: float,
        last_seen: str,
        log_tail: str = "",
        hint: str | None = None,
    ) -> None:
        super().__init__(
            f"{service} was not ready after {waited_s:.1f} s: {last_seen}",
            service=service,
            log_tail=log_tail,
            hint=hint,
        )
        self.waited_s = waited_s
        self.last_seen = last_seen


class PostgresNotFoundError(StackError):
    """No PostgreSQL installation that is new enough was found."""


class ContainerError(StackError):
    """Docker is absent, refuses, or a container did not start."""


class MigrationError(HarnessError):
    """A statement of a schema file failed.

    ``file`` and ``line`` (1-based) point at the statement, ``sqlstate`` is
    PostgreSQL's five-character code.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str,
        line: int,
        statement: str = "",
        sqlstate: str = "",
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.file = file
        self.line = line
        self.statement = statement
        self.sqlstate = sqlstate

    def __str__(self) -> str:
        code = f" [{self.sqlstate}]" if self.sqlstate else ""
        return f"{self.file}:{self.line}: {self.message}{code}"


class ExtensionMissingError(MigrationError):
    """The schema needs an extension that this PostgreSQL does not ship."""


class ProtocolError(HarnessError):
    """Bytes or messages that a protocol does not allow."""


class LocalProtocolError(ProtocolError):
    """Our own side asked for something the protocol does not allow."""


class RemoteProtocolError(ProtocolError):
    """The peer sent something the protocol does not allow."""


class ReportError(HarnessError):
    """A report folder that is missing, unreadable or not one of ours."""
