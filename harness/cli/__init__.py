"""The command line: one module a command.

A command parses, builds a :class:`harness.config.Config`, runs, and maps the verdict to
an exit code: 0 passed, 1 findings or unknown, 2 interrupted, 3 harness error, 4 usage,
5 nothing ran.
"""
