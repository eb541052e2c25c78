"""Realtime load: profiles as data, a client pool, exact histograms, checked delivery.

:func:`harness.load.runner.run_profile` runs a named profile in processes of its own,
:class:`harness.load.pool.LoadPool` in the caller's event loop;
:mod:`harness.load.history` judges deliveries for load and tests alike.
"""
