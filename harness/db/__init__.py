"""PostgreSQL: finding it, starting it, filling it, reading its catalog.

What runs inside a database as whom is decided here; who *may* do what is judged in
:mod:`harness.policies`.
"""
