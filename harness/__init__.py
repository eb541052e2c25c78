"""Test-and-simulation harness for Supabase-style backends.

Start here: :mod:`harness.stack` starts a stack and hands out projects,
:mod:`harness.policies` decides who may do what by executing it, and
:mod:`harness.scenario` ties stack, schema, workload and checks into one value.
"""

__version__ = "0.1.0"
