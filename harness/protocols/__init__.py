"""Sans-IO protocols: they decide on bytes and values and never wait.

None reads a clock, draws a random number or touches the operating system:

``tests/test_layers.py`` keeps ``asyncio``, ``os``, ``random``, ``socket`` and ``time``
out of this package.
"""
