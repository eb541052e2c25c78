"""Running things and telling of it: events out, one verdict at the end.

:mod:`harness.runner.session` counts events and hands them to the report writers,
:mod:`harness.runner.system` takes a scenario through its phases.
"""
