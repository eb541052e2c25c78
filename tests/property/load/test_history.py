"""The history checker: quiet on correct histories, exact on injected anomalies."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.load.history import (
    Anomaly,
    Delivery,
    Entitlement,
    Sent,
    SequenceCheck,
    SubscriberHistory,
    check_history,
    count_anomalies,
)

TRANSIT_S = 0.25


@dataclass(frozen=True)
class World:
    """A correct run: what was sent, and a history for each subscriber."""

    sent: list[Sent]
    histories: list[SubscriberHistory]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Draw streams, messages, entitlements and the deliveries they call for."""
    streams = [f"s{i}" for i in range(draw(st.integers(1, 3)))]
    sent = []
    for stream in streams:
        gaps = draw(st.lists(st.integers(1, 5), min_size=1, max_size=12))
        at_s = 0.0
        for number, gap in enumerate(gaps):
            at_s += gap
            sent.append(Sent(stream, number, at_s, at_s + 0.1))
    histories = [
        draw(histories_of(f"u{i}", streams, sent))
        for i in range(draw(st.integers(1, 3)))
    ]
    return World(sent, histories)


@st.composite
def histories_of(
    draw: st.DrawFn, name: str, streams: list[str], sent: list[Sent]
) -> SubscriberHistory:
    """Draw a subscriber whose deliveries are just what it is entitled to."""
    rights = []
    for stream in draw(st.sets(st.sampled_from(streams), min_size=1)):
        asked_s = draw(st.floats(0, 20))
        ends = draw(st.booleans())
        ending_s = asked_s + draw(st.floats(5, 40)) if ends else float("inf")
        rights.append(
            Entitlement(stream, asked_s, asked_s + 0.5, ending_s, ending_s + 0.5)
        )
    deliveries = []
    for message in sent:
        mine = [right for right in rights if right.stream == message.stream]
        must = any(right.must_carry(message) for right in mine)
        may = any(right.may_carry(message) for right in mine)
        if must or (may and draw(st.booleans())):
            deliveries.append(
                Delivery(message.stream, message.sequence, message.done_s + TRANSIT_S)
            )
    deliveries.sort(key=lambda delivery: (delivery.at_s, delivery.stream))
    return SubscriberHistory(name, rights, deliveries)


@given(worlds())
def test_a_correct_run_has_no_anomaly(world: World) -> None:
    assert check_history(world.sent, world.histories) == []


Injection = Callable[[World, random.Random], tuple[World, Anomaly] | None]


def _with_deliveries(world: World, who: int, deliveries: list[Delivery]) -> World:
    histories = list(world.histories)
    histories[who] = replace(histories[who], deliveries=deliveries)
    return World(world.sent, histories)


def _some_delivery(
    world: World, rng: random.Random
) -> tuple[int, list[Delivery], int] | None:
    choices = [
        (who, at)
        for who, history in enumerate(world.histories)
        for at in range(len(history.deliveries))
    ]
    if not choices:
        return None
    who, at = rng.choice(choices)
    return who, list(world.histories[who].deliveries), at


def lose(world: World, rng: random.Random) -> tuple[World, Anomaly] | None:
    """Take away a delivery that had to be."""
    by_key = {(m.stream, m.sequence): m for m in world.sent}
    choices = [
        (who, at)
        for who, history in enumerate(world.histories)
        for at, delivery in enumerate(history.deliveries)
        if any(
            right.stream == delivery.stream
            and right.must_carry(by_key[delivery.stream, delivery.sequence])
            for right in history.entitlements
        )
    ]
    if not choices:
        return None
    who, at = rng.choice(choices)
    deliveries = list(world.histories[who].deliveries)
    gone = deliveries.pop(at)
    name = world.histories[who].subscriber
    anomaly = Anomaly("lost", name, gone.stream, gone.sequence)
    return _with_deliveries(world, who, deliveries), anomaly


def repeat(world: World, rng: random.Random) -> tuple[World, Anomaly] | None:
    """Deliver something a second time."""
    chosen = _some_delivery(world, rng)
    if chosen is None:
        return None
    who, deliveries, at = chosen
    again = deliveries[at]
    deliveries.insert(rng.randrange(at + 1, len(deliveries) + 1), again)
    name = world.histories[who].subscriber
    anomaly = Anomaly("duplicate", name, again.stream, again.sequence)
    return _with_deliveries(world, who, deliveries), anomaly


def swap(world: World, rng: random.Random) -> tuple[World, Anomaly] | None:
    """Exchange two neighbours of one stream."""
    chosen = _some_delivery(world, rng)
    if chosen is None:
        return None
    who, deliveries, at = chosen
    later = [
        i
        for i in range(at + 1, len(deliveries))
        if deliveries[i].stream == deliveries[at].stream
    ]
    if not later:
        return None
    first, second = deliveries[at], deliveries[later[0]]
    deliveries[at], deliveries[later[0]] = (
        second._replace(at_s=max(first.at_s, second.at_s)),
        first._replace(at_s=max(first.at_s, second.at_s)),
    )
    name = world.histories[who].subscriber
    anomaly = Anomaly("reordered", name, first.stream, first.sequence)
    return _with_deliveries(world, who, deliveries), anomaly


def misdeliver(world: World, rng: random.Random) -> tuple[World, Anomaly] | None:
    """Give a message to somebody who never had a right to its stream."""
    choices = [
        (who, message)
        for who, history in enumerate(world.histories)
        for message in world.sent
        if all(right.stream != message.stream for right in history.entitlements)
    ]
    if not choices:
        return None
    who, message = rng.choice(choices)
    deliveries = list(world.histories[who].deliveries)
    deliveries.append(Delivery(message.stream, message.sequence, 1e6))
    name = world.histories[who].subscriber
    anomaly = Anomaly("wrong_recipient", name, message.stream, message.sequence)
    return _with_deliveries(world, who, deliveries), anomaly


def go_stale(world: World, rng: random.Random) -> tuple[World, Anomaly] | None:
    """Go on delivering after the right has ended."""
    choices = [
        (who, message)
        for who, history in enumerate(world.histories)
        for message in world.sent
        if any(
            right.stream == message.stream and right.ended_s < message.sent_s
            for right in history.entitlements
        )
    ]
    if not choices:
        return None
    who, message = choices[-1]
    deliveries = list(world.histories[who].deliveries)
    deliveries.append(Delivery(message.stream, message.sequence, 1e6))
    name = world.histories[who].subscriber
    kind = "stale_authorisation"
    anomaly = Anomaly(kind, name, message.stream, message.sequence)
    return _with_deliveries(world, who, deliveries), anomaly


def invent(world: World, rng: random.Random) -> tuple[World, Anomaly] | None:
    """Deliver what was never sent."""
    who = rng.randrange(len(world.histories))
    deliveries = [*world.histories[who].deliveries, Delivery("s0", 10**6, 1e6)]
    name = world.histories[who].subscriber
    anomaly = Anomaly("phantom", name, "s0", 10**6)
    return _with_deliveries(world, who, deliveries), anomaly


@pytest.mark.parametrize("inject", [lose, repeat, swap, misdeliver, go_stale, invent])
def test_one_injected_anomaly_is_named_and_nothing_else(inject: Injection) -> None:
    injected = 0

    @settings(max_examples=100)
    @given(worlds(), st.integers(0, 2**32))
    def check(world: World, seed: int) -> None:
        nonlocal injected
        broken = inject(world, random.Random(seed))
        if broken is None:
            return
        injected += 1
        faulty, expected = broken
        found = check_history(faulty.sent, faulty.histories)
        assert [anomaly[:4] for anomaly in found] == [expected[:4]]

    check()
    assert injected > 3, "hardly any world had room for the anomaly"


def test_a_delivery_before_its_sending_is_a_phantom() -> None:
    history = SubscriberHistory(
        "u", [Entitlement("s", 0, 0)], [Delivery("s", 0, at_s=0.5)]
    )
    found = check_history([Sent("s", 0, 1.0, 1.1)], [history])
    assert count_anomalies(found) == {"phantom": 1}


@given(st.integers(0, 40), st.lists(st.integers(0, 45), max_size=60))
@example(3, [])
@example(0, [0])
@example(2, [5, 0, 1])
def test_the_running_check_counts_what_the_full_check_names(
    count: int, arrivals: list[int]
) -> None:
    running = SequenceCheck()
    for number in arrivals:
        running.accept(number)
    lost = running.finish(count)

    sent = [Sent("s", number, number, number) for number in range(count)]
    deliveries = [Delivery("s", number, 1000 + i) for i, number in enumerate(arrivals)]
    history = SubscriberHistory("u", [Entitlement("s", 0, 0)], deliveries)
    named = Counter(anomaly.kind for anomaly in check_history(sent, [history]))
    assert lost == named["lost"]
    assert running.delivered == len({n for n in arrivals if n < count})
    if all(number < count for number in arrivals):
        assert running.duplicate == named["duplicate"]
        assert running.reordered == named["reordered"]
        assert running.phantom == 0
    else:
        assert running.phantom > 0


@given(
    st.integers(0, 40), st.integers(0, 40), st.lists(st.integers(0, 40), max_size=60)
)
@example(10, 4, [0, 2, 3])
@example(10, 4, [0, 1, 2, 3, 4, 6])
def test_after_the_end_of_a_right_a_delivery_is_stale_and_only_a_gap_is_lost(
    count: int, ended_at: int, arrivals: list[int]
) -> None:
    ended_at = min(ended_at, count)
    arrivals = [number for number in arrivals if number < count]
    running = SequenceCheck()
    for number in arrivals:
        running.accept(number)
    lost = running.finish(count, ended_at=ended_at)

    rightful = {number for number in arrivals if number < ended_at}
    assert running.stale == len(set(arrivals) - rightful)
    assert running.delivered == len(rightful)
    last = min(ended_at, max(arrivals, default=-1) + 1)
    assert lost == last - len(rightful)


@given(
    st.integers(1, 30),
    st.tuples(st.integers(0, 30), st.integers(0, 30)),
    st.lists(st.integers(0, 29), max_size=40),
    st.lists(st.integers(0, 29), max_size=40),
)
@example(10, (2, 6), [0, 1], [4, 6, 7, 8, 9])
@example(10, (2, 6), [0, 2], [6])
def test_what_was_sent_in_an_absence_is_neither_lost_nor_out_of_order(
    count: int, absence: tuple[int, int], before: list[int], after: list[int]
) -> None:
    first, stop = min(absence), min(max(absence), count)
    before = [number for number in before if number < count]
    after = [number for number in after if number < count]
    running = SequenceCheck()
    for number in before:
        running.accept(number)
    running.excuse(first, stop)
    for number in after:
        running.accept(number)

    came = {*before, *after}
    absent = set(range(first, stop)) - came
    assert running.finish(count) == len(set(range(count)) - came - absent)
    assert running.excused == len(absent)
    assert running.delivered == len(came)
    assert running.duplicate == len(before) + len(after) - len(came)


def test_a_number_far_ahead_is_a_phantom_and_costs_no_memory() -> None:
    check = SequenceCheck()
    check.accept(10**12)
    check.accept(0)
    assert (check.finish(1), check.phantom, check.delivered) == (0, 1, 1)
