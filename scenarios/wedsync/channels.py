"""The four channels, and who may subscribe to which.

A channel shows the rows of one table that belong to one tenant.  The tenant is that of
the signed-in user; what a request says is compared with it exactly, never searched in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "CHANNELS",
    "Channel",
    "ChannelDeniedError",
    "Filter",
    "FilterSyntaxError",
    "Tenant",
    "UnknownChannelError",
    "authorise",
    "find_channel",
]

TenantColumn = Literal["supplier_id", "couple_id"]
UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
FILTER = re.compile(rf"([a-z_]{{1,63}})=([a-z]{{1,10}})\.({UUID})")


class UnknownChannelError(ValueError):
    """There is no channel of this name."""


class FilterSyntaxError(ValueError):
    """Not ``column=operator.uuid``."""


class ChannelDeniedError(Exception):
    """The user may not subscribe to this channel with this filter."""


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel: which table, narrowed by which column, for which kind of user."""

    name: str
    table: str
    tenant_column: TenantColumn
    user_type: Literal["supplier", "couple"]


CHANNELS: Mapping[str, Channel] = {
    channel.name: channel
    for channel in (
        Channel("form-responses", "form_responses", "supplier_id", "supplier"),
        Channel("journey-progress", "journey_progress", "supplier_id", "supplier"),
        Channel("client-profiles", "clients", "supplier_id", "supplier"),
        Channel("core-fields", "core_fields", "couple_id", "couple"),
    )
}


@dataclass(frozen=True, slots=True)
class Tenant:
    """Whom a signed-in user speaks for, as the database says."""

    user_id: str
    user_type: str
    supplier_id: str | None = None
    couple_id: str | None = None

    def id_of(self, column: TenantColumn) -> str | None:
        """Return the tenant's id in a column."""
        return self.supplier_id if column == "supplier_id" else self.couple_id


@dataclass(frozen=True, slots=True)
class Filter:
    """One comparison, by its parts."""

    column: str
    operator: str
    value: str

    @classmethod
    def parse(cls, text: str) -> Filter:
        """Read ``column=operator.uuid``; raises :class:`FilterSyntaxError`."""
        match = FILTER.fullmatch(text)
        if match is None:
            raise FilterSyntaxError(f"not a filter: {text!r}")
        return cls(*match.groups())

    def __str__(self) -> str:
        return f"{self.column}={self.operator}.{self.value}"


def find_channel(name: str) -> Channel:
    """Return a channel; raises :class:`UnknownChannelError`."""
    try:
        return CHANNELS[name]
    except KeyError as exc:
        raise UnknownChannelError(f"unknown channel {name!r}") from exc


def authorise(tenant: Tenant, channel: Channel, asked: Filter) -> Filter:
    """Return the filter to subscribe with, or raise :class:`ChannelDeniedError`.

    It is derived from the tenant; ``asked`` must be the very same.
    """
    tenant_id = tenant.id_of(channel.tenant_column)
    if tenant.user_type != channel.user_type or tenant_id is None:
        raise ChannelDeniedError(f"{channel.name} is not for {tenant.user_type} users")
    own = Filter(channel.tenant_column, "eq", tenant_id)
    if asked != own:
        raise ChannelDeniedError(f"{channel.name} of another tenant")
    return own
