"""Latencies of paced messages, and the stages that the service's metrics tell."""

from __future__ import annotations

import time

import orjson

from harness.bench.latencies import METRIC, Latencies, stamped
from harness.bench.realtime import BROADCAST_STAGES, CHANGE_STAGES
from harness.load.cpu import CpuUse
from harness.servers.realtime.metrics import Metrics, render

USE = CpuUse(1.0, 0.0, 0.0, 0.0, 0.0)


def test_stamp_is_read_wherever_it_stands_in_a_message() -> None:
    latencies = Latencies()
    for ago_s, form in ((0.010, b'{"a":{%b}}'), (0.030, b'[1,{%b,"text":"x"}]')):
        stamp = orjson.dumps({"sent_s": time.time()})[1:-1]
        latencies.arrivals.last_s = time.time() + ago_s
        latencies.read(form % stamp)
    assert 19 <= latencies.mean_ms <= 21
    latencies.arrivals.last_s = time.time() + 0.020
    latencies.restart()
    latencies.read(stamped())
    result = latencies.result("s", "o", USE, reference="", goal_ms=(30.0, 40.0))
    assert result.ops == 1
    assert result.met is True
    result = latencies.result("s", "o", USE, reference="", goal_ms=(10.0, 40.0))
    assert result.met is False


def test_stages_are_counters_of_the_service() -> None:
    metrics = Metrics(change_batches=2, change_judging_seconds=0.25)
    found = {f[1]: float(f[2]) for f in METRIC.finditer(render(metrics, {}, "p"))}
    assert {*BROADCAST_STAGES, *CHANGE_STAGES} <= found.keys()
    assert found["change_batches"] == 2
    assert found["change_judging_seconds"] == 0.25
    assert "broadcasts_from_database" in found
