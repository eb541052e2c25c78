"""The services of a stack: asyncio shells around :mod:`harness.protocols`.

One process (``python -m harness.servers``) serves every project of a stack behind one
gateway port.  Each service is a class with ``start``, ``stop`` and ``handle``; what
they share is in :mod:`harness.servers.project`.
"""
