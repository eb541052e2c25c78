"""Who watches a table, arranged for judging and writing: by role, claims and watches.

Built when a batch first touches a table and kept until a subscription comes or goes, so
that a batch costs by what it delivers, not by who listens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from harness.servers.realtime.subscriptions import (
    END_OF_LOG,
    Listener,
    Subscription,
    Watch,
)
from harness.servers.realtime.visibility import Claims

__all__ = [
    "Cohort",
    "Holder",
    "RoleWatchers",
    "SubscriptionRegistry",
    "TableWatchers",
]


@dataclass(slots=True)
class Cohort:
    """Subscriptions of one holder of claims that have the same watches.

    ``kind`` is the position of these watches in :attr:`RoleWatchers.kinds`.
    """

    kind: int
    members: list[Subscription] = field(default_factory=list)


@dataclass(slots=True)
class Holder:
    """Everybody with the same claims: judged once."""

    claims: Claims
    cohorts: list[Cohort] = field(default_factory=list)
    kinds: frozenset[int] = frozenset()


@dataclass(slots=True)
class RoleWatchers:
    """The watchers of one role.

    ``kinds`` are the distinct lists of watches, ``is_uniform`` tells that every holder
    has the same ones, so that all ask about the same rows.
    """

    role: str
    kinds: list[tuple[Watch, ...]] = field(default_factory=list)
    holders: list[Holder] = field(default_factory=list)
    claims: list[Claims] = field(default_factory=list)
    is_uniform: bool = True

    def seal(self) -> None:
        """Derive what follows from the holders."""
        for holder in self.holders:
            holder.kinds = frozenset(cohort.kind for cohort in holder.cohorts)
        self.claims = [holder.claims for holder in self.holders]
        self.is_uniform = len({holder.kinds for holder in self.holders}) == 1


class TableWatchers:
    """All watchers of one table, by role.

    All their subscriptions cover what was committed from ``newest_lsn`` on and before
    ``oldest_lsn``.
    """

    def __init__(
        self, schema: str, table: str, subscriptions: Iterable[Subscription]
    ) -> None:
        self.roles: dict[str, RoleWatchers] = {}
        self.newest_lsn = 0
        self.oldest_lsn = END_OF_LOG
        self._holders: dict[tuple[str, str], Holder] = {}
        self._kinds: dict[tuple[str, tuple[Watch, ...]], int] = {}
        self._cohorts: dict[tuple[tuple[str, str], int], Cohort] = {}
        for subscription in subscriptions:
            watches = tuple(w for w in subscription.watches if w.covers(schema, table))
            if watches:
                self._add(subscription, watches)
        for role in self.roles.values():
            role.seal()

    def __bool__(self) -> bool:
        return bool(self.roles)

    def subscriptions(self) -> list[Subscription]:
        """Return every watching subscription."""
        return [
            member
            for role in self.roles.values()
            for holder in role.holders
            for cohort in holder.cohorts
            for member in cohort.members
        ]

    def listeners(self) -> list[Listener]:
        """Return every watching channel once, refreshed tokens or not."""
        return list(dict.fromkeys(s.channel for s in self.subscriptions()))

    def _add(self, subscription: Subscription, watches: tuple[Watch, ...]) -> None:
        identity = subscription.identity
        self.newest_lsn = max(self.newest_lsn, subscription.since_lsn)
        self.oldest_lsn = min(self.oldest_lsn, subscription.until_lsn)
        role = self.roles.get(identity.role)
        if role is None:
            role = self.roles[identity.role] = RoleWatchers(identity.role)
        holder = self._holders.get(identity.key)
        if holder is None:
            holder = Holder(Claims(identity.claims_json, identity.sub))
            self._holders[identity.key] = holder
            role.holders.append(holder)
        kind = self._kinds.setdefault((role.role, watches), len(role.kinds))
        if kind == len(role.kinds):
            role.kinds.append(watches)
        cohort = self._cohorts.get((identity.key, kind))
        if cohort is None:
            cohort = self._cohorts[identity.key, kind] = Cohort(kind)
            holder.cohorts.append(cohort)
        cohort.members.append(subscription)


class SubscriptionRegistry:
    """All live subscriptions of a project, looked up by table."""

    def __init__(self) -> None:
        self._all: dict[Subscription, None] = {}
        self._by_channel: dict[Listener, list[Subscription]] = {}
        self._ending: list[Subscription] = []
        self._by_table: dict[tuple[str, str], TableWatchers] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Subscription]:
        return iter(self._all)

    def listeners(self) -> list[Listener]:
        """Return every subscribed channel."""
        return [channel for channel, held in self._by_channel.items() if held]

    def add(self, subscription: Subscription) -> None:
        """Match ``subscription`` from the next batch on."""
        self._all[subscription] = None
        self._by_channel.setdefault(subscription.channel, []).append(subscription)
        self._by_table.clear()

    def remove(self, channel: Listener) -> None:
        """Match nothing for ``channel`` any more; batches under way skip it as well."""
        for subscription in self._by_channel.pop(channel, ()):
            subscription.is_live = False
            del self._all[subscription]
        self._by_table.clear()

    def end(self, subscription: Subscription, lsn: int) -> None:
        """Let ``subscription`` cover nothing from ``lsn`` on."""
        subscription.until_lsn = lsn
        self._ending.append(subscription)
        self._by_table.clear()

    def retire(self, lsn: int) -> None:
        """Forget subscriptions that ended at or before ``lsn``."""
        if not self._ending:
            return
        for subscription in [s for s in self._ending if s.until_lsn <= lsn]:
            self._ending.remove(subscription)
            if self._all.pop(subscription, self) is None:
                self._by_channel[subscription.channel].remove(subscription)
        self._by_table.clear()

    def watchers(self, schema: str, table: str) -> TableWatchers:
        """Return who watches a table."""
        found = self._by_table.get((schema, table))
        if found is None:
            found = TableWatchers(schema, table, self._all)
            self._by_table[schema, table] = found
        return found
