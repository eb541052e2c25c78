"""Starting a stack and handing out projects.

Drivers: :mod:`harness.stack.embedded` (processes of this machine, the default),
:mod:`harness.stack.containers` (Docker), :mod:`harness.stack.remote` (an existing
project behind a URL).  All give the same :class:`harness.stack.project.Project`.
"""
