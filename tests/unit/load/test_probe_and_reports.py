"""The measured message, histograms, and the merging of reports."""

import random
from dataclasses import replace

import orjson
import pytest

from harness.errors import LocalProtocolError, ReportError
from harness.events import LoadStepFinished
from harness.faults import parse_timed_fault
from harness.load.histogram import LatencyHistogram
from harness.load.probe import broadcast_payload, find_mark, probe_text, read_probe
from harness.load.runner import conclude, judge
from harness.load.step_report import StepReport, merge_reports


def test_a_probe_is_read_from_a_broadcast_wherever_it_stands() -> None:
    payload = broadcast_payload(7, 12, 1_000_000_001, 200)
    assert len(payload) == 200
    assert orjson.loads(payload)["probe"] == probe_text(7, 12, 1_000_000_001)
    frame = b'[null,null,"realtime:x","broadcast",{"payload":' + payload + b"}]"
    assert read_probe(frame) == (7, 12, 1_000_000_001)
    assert read_probe(frame, find_mark(frame)) == (7, 12, 1_000_000_001)
    assert read_probe(frame, 3) == (7, 12, 1_000_000_001)


def test_a_probe_is_read_from_a_row_as_postgresql_spaces_it() -> None:
    text = probe_text(1, 2, 3)
    assert read_probe(f'{{"id": 1, "probe": "{text}"}}'.encode()) == (1, 2, 3)


@pytest.mark.parametrize("message", [b"", b'{"probe":"x"}', b'{"probe":', b"[1]"])
def test_what_carries_no_probe_gives_none(message: bytes) -> None:
    assert read_probe(message) is None


def test_a_number_that_is_too_wide_is_refused() -> None:
    with pytest.raises(LocalProtocolError):
        probe_text(10**6, 0, 0)


def test_histograms_merge_exactly() -> None:
    rng = random.Random(3)
    values = [rng.randrange(1, 10**7) for _ in range(3000)]
    whole, first, second = (LatencyHistogram() for _ in range(3))
    whole.record_many_us(values)
    first.record_many_us(values[:1000])
    second.record_many_us(values[1000:])
    first.merge(LatencyHistogram.decode(second.encode()))
    assert first.summary() == whole.summary()
    assert list(first.buckets()) == list(whole.buckets())
    assert whole.percentile_ms(50) == pytest.approx(
        sorted(values)[1500] / 1e3, rel=0.01
    )


def test_an_empty_histogram_is_empty_text() -> None:
    assert LatencyHistogram().encode() == ""
    assert LatencyHistogram.decode("").count == 0


@pytest.mark.parametrize("text", ["x", "HISTFAAAA", "é", "AAAA"])
def test_text_that_is_no_histogram_is_refused(text: str) -> None:
    with pytest.raises(ReportError, match="not a latency histogram"):
        LatencyHistogram.decode(text)


def report(**changes: object) -> StepReport:
    histogram = LatencyHistogram()
    histogram.record_many_us([1000, 2000, 3000, 4000])
    finished = LoadStepFinished(
        profile="p",
        step=1,
        subscribers=2,
        offered_per_s=10.0,
        duration_s=2.0,
        sent=2,
        expected=4,
        delivered=4,
        lost=0,
        duplicate=0,
        reordered=0,
        wrong_recipient=0,
        stale=0,
        latency=histogram.summary(),
        server_cpu_s=0.5,
        generator_cpu_s=0.25,
        histogram=histogram.encode(),
        timeline=((0.25, 4, 3.0), (0.5, 0, 0.0)),
    )
    finished = replace(finished, **changes)  # type: ignore[arg-type]  # test data
    return StepReport(finished=finished, lag_p99_ms=1.0, generator_share=0.1)


def test_a_report_survives_json() -> None:
    record = orjson.loads(orjson.dumps(report().to_record()))
    assert StepReport.from_record(record) == report()


def test_merged_reports_add_counts_and_take_one_reading_of_the_server() -> None:
    other = report(server_cpu_s=0.75, lost=1, delivered=3)
    merged = merge_reports([report(), other], profile="both").finished
    assert (merged.profile, merged.expected, merged.delivered) == ("both", 8, 7)
    assert (merged.lost, merged.latency.count) == (1, 8)
    assert merged.server_cpu_s == 0.75
    assert merged.generator_cpu_s == 0.5
    assert merged.timeline == ((0.25, 8, 3.0), (0.5, 0, 0.0))


def test_merged_time_lines_keep_what_arrived_after_the_shortest_had_ended() -> None:
    longer = report(timeline=((0.25, 2, 1.0), (0.51, 1, 2.0), (0.76, 1, 9.0)))
    merged = merge_reports([report(), longer], profile="both").finished
    assert merged.timeline == ((0.25, 6, 3.0), (0.51, 1, 2.0), (0.76, 1, 9.0))


def test_a_clean_step_gives_no_finding() -> None:
    assert list(judge(report(), phase="load", seed=1)) == []


def test_each_kind_of_anomaly_is_a_finding_with_its_repeat() -> None:
    wrong = replace(
        report(lost=2, wrong_recipient=1), examples=("realtime:x missed 2",)
    )
    faults = [parse_timed_fault("pause:server@1s+2s")]
    findings = list(judge(wrong, phase="load", seed=7, faults=faults))
    assert [finding.severity for finding in findings] == ["high", "critical"]
    assert findings[0].message == "2 of 4 deliveries: lost"
    assert findings[0].note == "realtime:x missed 2"
    assert findings[0].repeat == "harness load p --fault pause:server@1s+2s --seed 7"


def test_the_checks_of_a_run_sum_over_its_steps() -> None:
    checks = list(conclude([report(), report(step=2, lost=3)], phase="load"))
    failed = [check for check in checks if check.outcome == "failed"]
    assert len(checks) == 5
    assert [check.detail for check in failed] == ["3 of 8 deliveries"]


def test_a_late_generator_is_a_note_and_no_failure() -> None:
    late = replace(report(), lag_p99_ms=400.0)
    findings = list(judge(late, phase="load", seed=7))
    assert [finding.severity for finding in findings] == ["note"]


def test_counting_by_bucket_gives_the_same_histogram_as_one_by_one() -> None:
    rng = random.Random(5)
    values = [int(rng.lognormvariate(9, 3)) for _ in range(5000)] + [0, 1, 2047, 2048]
    together, singly = LatencyHistogram(), LatencyHistogram()
    together.record_many_us(values)
    for value in values:
        singly.record_us(value)
    assert list(together.buckets()) == list(singly.buckets())
