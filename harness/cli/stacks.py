"""Which stack a command runs on: embedded, containers, or an existing project."""

from __future__ import annotations

import os

from harness.config import Config, did_you_mean
from harness.errors import UsageError
from harness.stack.base import AttachedStack, Stack
from harness.stack.embedded import EmbeddedStack
from harness.stack.registry import StackRegistry

__all__ = ["open_stack"]

KINDS = ["embedded", "containers"]


def open_stack(config: Config) -> Stack:
    """Return the stack that ``config.stack`` names, not started yet.

    A URL of a stack of ours on this machine is attached to; any other URL is an
    existing project, whose keys come from ``SUPABASE_*`` of the environment.
    """
    if config.stack == "embedded":
        return EmbeddedStack(config)
    if config.stack == "containers":
        from harness.stack.containers import ContainerStack

        return ContainerStack(config)
    if config.stack.startswith(("http://", "https://")):
        return _existing(config)
    raise UsageError(
        f"unknown stack {config.stack!r}",
        hint=did_you_mean(config.stack, KINDS) or "embedded, containers, or a URL",
    )


def _existing(config: Config) -> Stack:
    url = config.stack.rstrip("/")
    for descriptor in StackRegistry(config.state_dir).running():
        if descriptor.api_url == url:
            return AttachedStack(descriptor)
    from harness.stack.remote import RemoteStack

    return RemoteStack.from_environment(url, os.environ)
