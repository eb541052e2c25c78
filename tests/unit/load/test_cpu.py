"""CPU readings of real processes."""

import os
import subprocess
import sys
import time

from harness.load.cpu import CpuMeter, process_tree, tree_cpu_s, tree_rss_mib
from harness.load.target import Target

BURN = (
    "import time\nend = time.process_time() + {s}\nwhile time.process_time() < end: 0"
)


def test_meter_counts_the_generator_and_what_a_child_burnt_after_it_ended() -> None:
    target = Target(url="http://h", anon_key="k", server_pids=(os.getpid(),))
    meter = CpuMeter(target)
    subprocess.run([sys.executable, "-c", BURN.format(s=0.2)], check=True)
    use = meter.read()
    assert use.server_s >= 0.2
    assert use.generator_s < use.server_s
    assert use.wall_s >= 0.2


def test_tree_holds_living_children_and_counts_their_time() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BURN.format(s=30)], stdout=subprocess.DEVNULL
    ) as child:
        try:
            deadline = time.monotonic() + 10
            while tree_cpu_s((child.pid,)) < 0.1:
                assert time.monotonic() < deadline, "the child's time never grew"
            assert child.pid in process_tree((os.getpid(),))
            assert tree_rss_mib((child.pid,)) > 1
        finally:
            child.kill()


def test_a_process_that_is_gone_reads_as_zero() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert tree_cpu_s((child.pid,)) == 0
    assert tree_rss_mib((child.pid,)) == 0


def test_a_server_that_ended_is_named_and_costs_nothing_negative() -> None:
    with subprocess.Popen([sys.executable, "-c", BURN.format(s=30)]) as child:
        target = Target(url="http://h", anon_key="k", server_pids=(child.pid,))
        meter = CpuMeter(target)
        assert meter.ended() == []
        child.kill()
    assert meter.ended() == [child.pid]
    assert meter.read().server_s == 0
