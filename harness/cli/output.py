"""How a stack's URLs and keys are shown: for people, for ``eval``, for programs.

The names are those of ``supabase status``, so that scripts written for it work.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Literal

import click

from harness.stack.descriptor import StackDescriptor

__all__ = ["OutputFormat", "show_stack", "stack_variables"]

OutputFormat = Literal["pretty", "env", "json"]

LABELS = {
    "API_URL": "API URL",
    "DB_URL": "Database URL",
    "STORAGE_S3_URL": "S3 endpoint",
    "PUBLISHABLE_KEY": "Publishable key",
    "SECRET_KEY": "Secret key",
    "ANON_KEY": "anon key",
    "SERVICE_ROLE_KEY": "service_role key",
    "JWT_SECRET": "JWT secret",
    "S3_PROTOCOL_ACCESS_KEY_ID": "S3 access key",
    "S3_PROTOCOL_ACCESS_KEY_SECRET": "S3 secret key",
    "S3_PROTOCOL_REGION": "S3 region",
}


def stack_variables(descriptor: StackDescriptor) -> Mapping[str, str]:
    """Return the variables of ``supabase status -o env`` for the default project."""
    api, keys = descriptor.api_url, descriptor.keys
    return {
        "API_URL": api,
        "REST_URL": f"{api}/rest/v1",
        "STORAGE_S3_URL": f"{api}/storage/v1/s3",
        "DB_URL": descriptor.db_url("postgres"),
        "PUBLISHABLE_KEY": keys.publishable_key,
        "SECRET_KEY": keys.secret_key,
        "ANON_KEY": keys.anon_key,
        "SERVICE_ROLE_KEY": keys.service_role_key,
        "JWT_SECRET": keys.jwt_secret,
        "S3_PROTOCOL_ACCESS_KEY_ID": keys.s3.access_key_id,
        "S3_PROTOCOL_ACCESS_KEY_SECRET": keys.s3.secret_access_key,
        "S3_PROTOCOL_REGION": keys.s3.region,
        "SUPABASE_URL": api,
        "SUPABASE_ANON_KEY": keys.anon_key,
        "SUPABASE_SERVICE_ROLE_KEY": keys.service_role_key,
    }


def show_stack(descriptor: StackDescriptor, output: OutputFormat) -> None:
    """Print a stack in the wanted form on standard output."""
    variables = stack_variables(descriptor)
    if output == "json":
        click.echo(json.dumps(dict(variables), indent=2))
    elif output == "env":
        for name, value in variables.items():
            click.echo(f"{name}={shlex.quote(value)}")
    else:
        # No table: keys are for pasting, never wrapped and never shortened.
        for name, label in LABELS.items():
            click.echo(f"{click.style(f'{label:>16}', bold=True)}: {variables[name]}")
