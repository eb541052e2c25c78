"""Settings of the Storage API, named as the real service's environment names them.

They come from ``ServedProject.settings.storage``, keys in lower case.  ``compat``
brings back what the real service does where ours is safer by default.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from harness.errors import ConfigError

__all__ = ["StorageSettings"]

GIB = 1024**3


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """What can be set; sizes in bytes, times in seconds unless named otherwise.

    ``durability`` ``full`` syncs bytes and folders before a row points at them.
    ``backend`` ``s3`` keeps the bytes at ``s3_endpoint``; unfinished uploads always
    stay in the project's own folder.  ``fault_point`` names the place where the process
    kills itself (tests only).
    """

    backend: Literal["file", "s3"] = "file"
    durability: Literal["fast", "full"] = "fast"
    compat: bool = False
    upload_file_size_limit: int = 50 * GIB
    upload_file_size_limit_standard: int = 0
    upload_signed_url_expiration_time: int = 60
    empty_bucket_max: int = 200_000
    response_s_maxage: int = 0
    request_hard_limits_enabled: bool = False
    max_connections: int = 10
    tus_url_expiry_ms: int = 24 * 3600 * 1000
    tus_lock_wait_s: float = 5.0
    image_transformation_enabled: bool = True
    render_max_width: int = 2500
    render_max_height: int = 2500
    render_min_width: int = 0
    render_min_height: int = 0
    render_max_source_pixels: int = 50_000_000
    cdn_purge_endpoint_url: str = ""
    cdn_purge_endpoint_key: str = ""
    metrics_enabled: bool = True
    expose_docs: bool = True
    version: str = "1.11.2"
    tenant_id: str = "stub"
    s3_protocol_enabled: bool = True
    s3_endpoint: str = ""
    s3_bucket: str = "storage"
    s3_region: str = "us-east-1"
    s3_access_key_id: str = ""
    s3_secret_access_key: str = ""
    fault_point: str = ""
    fault_action: str = "kill"

    @classmethod
    def of(cls, mapping: Mapping[str, Any]) -> Self:
        """Return the settings of ``mapping``; an unknown key is a ConfigError."""
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(mapping) - known):
            raise ConfigError(
                f"unknown storage setting: {', '.join(unknown)}",
                hint=f"known settings: {', '.join(sorted(known))}",
            )
        return cls(**mapping)
