"""A project folder of the Supabase CLI on one of our stacks.

The keys of ``config.toml`` that concern a running service become its settings; the
schema comes from :mod:`harness.db.supabase_project`; files of ``objects_path`` are
uploaded through the Storage API, as ``supabase seed buckets`` does.
"""

from __future__ import annotations

import json
import mimetypes
from pathlib import Path
from typing import Any

from harness.db.supabase_config import AuthConfig, SupabaseConfig
from harness.db.supabase_project import SupabaseProject, bucket_objects
from harness.errors import ConfigError
from harness.protocols.jwt import ProjectKeys
from harness.servers.project import ProjectSettings
from harness.stack.project import Project

__all__ = ["project_keys", "service_settings", "upload_bucket_objects"]

DEFAULT_TYPE = "application/octet-stream"
SIGNED_UPLOAD_S = 7200  # as the CLI sets it


def service_settings(config: SupabaseConfig) -> ProjectSettings:
    """Return what the services are told of ``config``."""
    running = {
        "auth": config.auth.enabled,
        "rest": config.api.enabled,
        "storage": config.storage.enabled,
        "realtime": config.realtime.enabled,
    }
    return ProjectSettings(
        off=tuple(name for name, enabled in running.items() if not enabled),
        auth=_auth_settings(config.auth),
        rest={
            "schemas": list(config.api.schemas),
            "extra_search_path": list(config.api.extra_search_path),
            "max_rows": config.api.max_rows,
        },
        realtime={"max_header_length": config.realtime.max_header_length},
        storage={
            "upload_file_size_limit": config.storage.file_size_limit,
            "upload_signed_url_expiration_time": SIGNED_UPLOAD_S,
            "s3_protocol_enabled": config.storage.s3_protocol_enabled,
            "image_transformation_enabled": config.storage.image_transformation_enabled,
        },
    )


def project_keys(config: SupabaseConfig) -> ProjectKeys:
    """Return the keys of ``config``; raises :class:`ConfigError` for a broken file."""
    path = config.auth.signing_keys_path
    if path is None:
        return ProjectKeys(jwt_secret=config.auth.jwt_secret)
    try:
        keys = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise ConfigError(f"auth.signing_keys_path cannot be read: {exc}") from exc
    if not isinstance(keys, list):
        raise ConfigError(f"{path.name} is not a JSON array of keys")
    return ProjectKeys(jwt_secret=config.auth.jwt_secret, signing_keys=tuple(keys))


async def upload_bucket_objects(project: Project, source: SupabaseProject) -> int:
    """Upload the files of every bucket's ``objects_path``; returns how many."""
    if not source.config.storage.enabled:
        return 0
    client = await project.client(project.service)
    uploaded = 0
    for bucket in source.config.storage.buckets:
        files = client.storage.from_(bucket.name)
        for key, path in bucket_objects(bucket):
            await files.upload(
                key, _read(path), {"content-type": _type_of(path), "upsert": "true"}
            )
            uploaded += 1
    return uploaded


def _auth_settings(auth: AuthConfig) -> dict[str, Any]:
    return {
        "jwt_expiry": auth.jwt_expiry_s,
        "jwt_issuer": auth.jwt_issuer,
        "enable_signup": auth.enable_signup,
        "enable_anonymous_sign_ins": auth.enable_anonymous_sign_ins,
        "enable_refresh_token_rotation": auth.enable_refresh_token_rotation,
        "refresh_token_reuse_interval": auth.refresh_token_reuse_interval_s,
        "minimum_password_length": auth.minimum_password_length,
        "password_requirements": auth.password_requirements,
        "email": {
            "enable_signup": auth.email.enable_signup,
            "enable_confirmations": auth.email.enable_confirmations,
        },
        "rate_limit": dict(auth.rate_limit),
        "hook": {
            hook.name: hook.uri
            for hook in auth.hooks
            if hook.enabled and hook.function is not None
        },
    }


def _read(path: Path) -> bytes:
    return path.read_bytes()


def _type_of(path: Path) -> str:
    return mimetypes.guess_type(path.name)[0] or DEFAULT_TYPE
