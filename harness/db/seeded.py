"""A cluster that starts with a template database already in it.

The first start for a version and a set of schema files builds the template in a
cluster of its own, stops it cleanly and keeps its data directory in the cache; later
starts copy that.  So a warm stack does not apply ``sql/platform`` again.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Sequence

from harness.db.cluster import Cluster, ClusterOptions, prepare_cluster
from harness.db.cluster_cache import (
    default_cache_dir,
    keep_variant,
    variant_exists,
)
from harness.db.discovery import PostgresInstallation
from harness.db.launch import LaunchPlan
from harness.db.rundir import RunDir
from harness.db.schema_files import Schema, digest
from harness.db.templates import TemplateStore

__all__ = ["prepare_seeded_cluster"]


def prepare_seeded_cluster(
    installation: PostgresInstallation,
    options: ClusterOptions,
    schemas: Sequence[Schema],
) -> tuple[RunDir, LaunchPlan]:
    """Do what :func:`prepare_cluster` does, with the template of ``schemas`` inside.

    Blocks; to be called from a thread without an event loop.  Raises
    :class:`~harness.errors.MigrationError` where a schema file cannot be applied.
    """
    variant = digest(schemas)
    cache_dir = options.cache_dir or default_cache_dir(os.environ)
    if not variant_exists(cache_dir, installation, variant):
        _build(installation, options, schemas, variant)
    return prepare_cluster(installation, dataclasses.replace(options, variant=variant))


def _build(
    installation: PostgresInstallation,
    options: ClusterOptions,
    schemas: Sequence[Schema],
    variant: str,
) -> None:
    plain = dataclasses.replace(options, port=0, variant="")
    cache_dir = options.cache_dir or default_cache_dir(os.environ)
    with Cluster.start(installation, plain) as cluster:
        asyncio.run(_make_template(cluster, schemas))
        cluster.end_cleanly()
        keep_variant(cluster.data_dir, cache_dir, installation, variant)


async def _make_template(cluster: Cluster, schemas: Sequence[Schema]) -> None:
    async with TemplateStore(cluster.address()) as store:
        await store.template(schemas)
