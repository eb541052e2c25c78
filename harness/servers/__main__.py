"""``python -m harness.servers`` runs :mod:`harness.servers.process`."""

from __future__ import annotations

import gc
import sys


def main() -> int:
    """Load and run the server process."""
    # Loading makes many objects and drops few: collections only cost time, a tenth.
    gc.disable()
    from harness.servers.outward import without_authorities

    with without_authorities():
        from harness.servers.process import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
