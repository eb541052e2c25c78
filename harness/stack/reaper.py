"""Removes the containers and networks of a stack by label, whatever its owner's end.

While a stack of containers runs, a reaper process waits on a pipe from its owner; when
the pipe ends it removes everything that carries the stack's label.  Where the reaper
was killed too, :func:`reap_abandoned` finds the leftovers at the next start.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from docker.errors import APIError, NotFound

from harness.stack.images import connect_docker
from harness.stack.registry import is_alive

if TYPE_CHECKING:
    from docker import DockerClient

__all__ = ["OWNER_LABEL", "STACK_LABEL", "reap", "reap_abandoned", "start_reaper"]

STACK_LABEL = "dev.harness.stack"
OWNER_LABEL = "dev.harness.owner"


def start_reaper(stack: str) -> subprocess.Popen[bytes]:
    """Start a process that reaps ``stack`` when its standard input ends."""
    return subprocess.Popen(
        [sys.executable, "-m", "harness.stack.reaper", stack],
        stdin=subprocess.PIPE,
        # Ctrl-C in the terminal is for the owner; the reaper outlives it.
        start_new_session=True,
    )


def reap(client: DockerClient, stack: str) -> int:
    """Remove the containers, then the networks, of ``stack``; returns how many."""
    label = {"label": f"{STACK_LABEL}={stack}"}
    containers = client.containers.list(all=True, filters=label, ignore_removed=True)
    for container in containers:
        _remove_container(container)
    networks = client.networks.list(filters=label)
    for network in networks:
        _remove_network(network)
    return len(containers) + len(networks)


def reap_abandoned(client: DockerClient) -> list[str]:
    """Reap the stacks whose owner no longer lives; returns their names."""
    found: dict[str, int] = {}
    everything = [
        *client.containers.list(
            all=True, filters={"label": STACK_LABEL}, ignore_removed=True
        ),
        *client.networks.list(filters={"label": STACK_LABEL}),
    ]
    for thing in everything:
        labels = thing.attrs.get("Labels") or thing.attrs["Config"]["Labels"]
        found[labels[STACK_LABEL]] = int(labels.get(OWNER_LABEL, "0"))
    abandoned = [stack for stack, owner in found.items() if not is_alive(owner)]
    for stack in abandoned:
        reap(client, stack)
    return abandoned


def _remove_container(container: object) -> None:
    try:
        container.remove(force=True, v=True)  # type: ignore[attr-defined]
    except (NotFound, APIError) as exc:
        # Somebody else removes it at the same time: that is what we want.
        if not isinstance(exc, NotFound) and "in progress" not in str(exc):
            raise


def _remove_network(network: object) -> None:
    try:
        network.remove()  # type: ignore[attr-defined]
    except NotFound:
        return


def main() -> None:
    """Wait until standard input ends, then reap the stack named on the command line."""
    sys.stdin.buffer.read()
    reap(connect_docker(), sys.argv[1])


if __name__ == "__main__":
    main()
