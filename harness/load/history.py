"""What subscribers got, compared with what they should have got: named anomalies.

========================  ======================================================
``lost``                  entitled all the time from sending on, never delivered
``duplicate``             delivered more than once
``reordered``             delivered after a later message of the same stream
``wrong_recipient``       delivered to somebody who was never entitled to it
``stale_authorisation``   sent after the subscriber's entitlement had ended
``phantom``               never sent, or delivered before it was sent
========================  ======================================================

A *stream* is whatever has an order: one publisher on one topic, the rows of one owner
in commit order.  Its messages are numbered from 0.  Nothing here reads a clock or a
socket, so that tests, the load generator and a log on disk are judged alike.

:func:`check_history` judges complete records, with entitlements that begin and end.
:class:`SequenceCheck` judges one subscriber of one stream while it runs, in constant
memory as long as nothing is missing; both name the same anomalies.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

__all__ = [
    "Anomaly",
    "AnomalyKind",
    "Delivery",
    "Entitlement",
    "Sent",
    "SequenceCheck",
    "SubscriberHistory",
    "check_history",
    "count_anomalies",
]

AnomalyKind = Literal[
    "lost",
    "duplicate",
    "reordered",
    "wrong_recipient",
    "stale_authorisation",
    "phantom",
]
MAX_GAP = 10_000_000  # a jump further ahead is a number that nobody sent


class Anomaly(NamedTuple):
    """One thing that went wrong for one subscriber, with the message it was."""

    kind: AnomalyKind
    subscriber: str
    stream: str
    sequence: int
    detail: str = ""


class Sent(NamedTuple):
    """A message and the two ends of its sending.

    ``sent_s`` is when it could first take effect, ``done_s`` when its sender was told
    that it had (the begin of an INSERT and the end of its COMMIT).
    """

    stream: str
    sequence: int
    sent_s: float
    done_s: float


class Delivery(NamedTuple):
    """A message as a subscriber got it, in the order of arrival."""

    stream: str
    sequence: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Entitlement:
    """When a subscriber has a right to a stream.

    Between asking (``asked_s``) and being told (``live_s``), and again between the
    order to end it (``ending_s``) and its confirmed end (``ended_s``), a message may
    come or not; neither is an anomaly.
    """

    stream: str
    asked_s: float
    live_s: float
    ending_s: float = math.inf
    ended_s: float = math.inf

    def must_carry(self, message: Sent) -> bool:
        """Say whether a missing ``message`` would be lost."""
        return self.live_s <= message.sent_s and message.done_s <= self.ending_s

    def may_carry(self, message: Sent) -> bool:
        """Say whether a delivered ``message`` is in order."""
        return self.asked_s <= message.done_s and message.sent_s <= self.ended_s


@dataclass(frozen=True, slots=True)
class SubscriberHistory:
    """All that one subscriber was entitled to, and all that it got."""

    subscriber: str
    entitlements: Sequence[Entitlement]
    deliveries: Sequence[Delivery] = field(default_factory=list)


def check_history(
    sent: Iterable[Sent], histories: Iterable[SubscriberHistory]
) -> list[Anomaly]:
    """Return every anomaly, by subscriber, in order of delivery, losses last."""
    by_stream: dict[str, dict[int, Sent]] = defaultdict(dict)
    for message in sent:
        by_stream[message.stream][message.sequence] = message
    return [
        anomaly
        for history in histories
        for anomaly in (
            *_judge_deliveries(history, by_stream),
            *_judge_losses(history, by_stream),
        )
    ]


def count_anomalies(anomalies: Iterable[Anomaly]) -> dict[AnomalyKind, int]:
    """Return how many anomalies there are of each kind that occurs."""
    counts: dict[AnomalyKind, int] = {}
    for anomaly in anomalies:
        counts[anomaly.kind] = counts.get(anomaly.kind, 0) + 1
    return counts


class SequenceCheck:
    """Judges the numbers of one stream as one subscriber gets them.

    ``duplicate`` and ``reordered`` count while it runs; ``lost``, ``phantom`` and
    ``stale`` are known once :meth:`finish` was told how many messages there were.
    """

    __slots__ = (
        "_excused",
        "_missing",
        "_next",
        "delivered",
        "duplicate",
        "phantom",
        "reordered",
        "stale",
    )

    def __init__(self) -> None:
        self._next = 0
        self._missing: set[int] = set()
        self._excused: set[int] = set()
        self.delivered = 0
        self.duplicate = 0
        self.reordered = 0
        self.phantom = 0
        self.stale = 0

    def accept(self, sequence: int) -> None:
        """Take the number of the next message that arrived."""
        if sequence == self._next:
            self._next = sequence + 1
            self.delivered += 1
        else:
            self._accept_out_of_turn(sequence)

    @property
    def next_number(self) -> int:
        """The number after the highest that has arrived."""
        return self._next

    @property
    def excused(self) -> int:
        """How many messages did not come, and need not."""
        return len(self._excused)

    def excuse(self, first: int, stop: int) -> None:
        """Miss none of the messages from ``first`` to before ``stop``.

        Those of them that still come are in order.
        """
        if stop > self._next:
            self._missing.update(range(self._next, stop))
            self._next = stop
        excused = self._missing.intersection(range(first, stop))
        self._missing -= excused
        self._excused |= excused

    def has_all(self, count: int) -> bool:
        """Say whether the first ``count`` messages have arrived."""
        return self._next >= count and not self._missing

    def finish(self, count: int, *, ended_at: int | None = None) -> int:
        """Return how many of ``count`` messages were lost.

        ``ended_at`` is the number of the first message that was sent after the right
        to the stream had ended.  Who still gets it has a stale right; and as messages
        on their way may be withheld by then, only gaps before the last that arrived
        are losses.
        """
        self.phantom += self._take_back(count)
        if ended_at is None:
            return len(self._missing) + count - self._next
        self.stale += self._take_back(ended_at)
        return len(self._missing)

    def first_missing(self) -> int:
        """Return the lowest number that has not arrived."""
        return min(self._missing, default=self._next)

    def _take_back(self, first: int) -> int:
        """Count none of the messages from ``first`` on; returns how many came."""
        if self._next <= first:
            return 0
        beyond = range(first, self._next)
        absent = self._missing | self._excused
        arrived = sum(number not in absent for number in beyond)
        self.delivered -= arrived
        self._missing.difference_update(beyond)
        self._excused.difference_update(beyond)
        self._next = first
        return arrived

    def _accept_out_of_turn(self, sequence: int) -> None:
        if sequence < 0 or sequence - self._next > MAX_GAP:
            self.phantom += 1
        elif sequence > self._next:
            self._missing.update(range(self._next, sequence))
            self._next = sequence + 1
            self.delivered += 1
        elif sequence in self._missing:
            self._missing.remove(sequence)
            self.reordered += 1
            self.delivered += 1
        elif sequence in self._excused:
            self._excused.remove(sequence)
            self.delivered += 1
        else:
            self.duplicate += 1


def _judge_deliveries(
    history: SubscriberHistory, by_stream: Mapping[str, Mapping[int, Sent]]
) -> Iterable[Anomaly]:
    rights = _rights(history)
    seen: dict[str, set[int]] = defaultdict(set)
    highest: dict[str, int] = {}
    for stream, number, at_s in history.deliveries:
        message = by_stream.get(stream, {}).get(number)
        if message is None:
            yield Anomaly("phantom", history.subscriber, stream, number, "never sent")
            continue
        if at_s < message.sent_s:
            early = f"delivered {message.sent_s - at_s:.6f} s before it was sent"
            yield Anomaly("phantom", history.subscriber, stream, number, early)
        if number in seen[stream]:
            yield Anomaly("duplicate", history.subscriber, stream, number)
            continue
        seen[stream].add(number)
        wrong = _judge_right(history.subscriber, message, rights.get(stream, []))
        if wrong is not None:
            yield wrong
        if number < highest.get(stream, -1):
            after = f"after {highest[stream]}"
            yield Anomaly("reordered", history.subscriber, stream, number, after)
        highest[stream] = max(number, highest.get(stream, -1))


def _judge_right(
    subscriber: str, message: Sent, rights: Sequence[Entitlement]
) -> Anomaly | None:
    if any(right.may_carry(message) for right in rights):
        return None
    ends = [right.ended_s for right in rights if right.ended_s < message.sent_s]
    stream, number = message.stream, message.sequence
    if not ends:
        return Anomaly("wrong_recipient", subscriber, stream, number)
    late = f"sent {message.sent_s - max(ends):.6f} s after the right had ended"
    return Anomaly("stale_authorisation", subscriber, stream, number, late)


def _judge_losses(
    history: SubscriberHistory, by_stream: Mapping[str, Mapping[int, Sent]]
) -> Iterable[Anomaly]:
    got = {(stream, number) for stream, number, _ in history.deliveries}
    for stream, rights in _rights(history).items():
        for number, message in sorted(by_stream.get(stream, {}).items()):
            due = any(right.must_carry(message) for right in rights)
            if due and (stream, number) not in got:
                yield Anomaly("lost", history.subscriber, stream, number)


def _rights(history: SubscriberHistory) -> dict[str, list[Entitlement]]:
    rights: dict[str, list[Entitlement]] = defaultdict(list)
    for entitlement in history.entitlements:
        rights[entitlement.stream].append(entitlement)
    return rights
