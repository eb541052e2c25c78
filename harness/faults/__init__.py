"""What can go wrong on purpose, in one vocabulary for every stack driver.

A *fault* is a frozen value (:mod:`~harness.faults.vocabulary`), a *site* says which
process, link or disk it means (:mod:`~harness.faults.site`), and
:func:`~harness.faults.injection.inject` makes it true and undoes it.
"""

from harness.faults.connections import LinkConditions, TcpProxy
from harness.faults.disk import SmallDisk
from harness.faults.injection import inject
from harness.faults.site import LocalSite, Site
from harness.faults.vocabulary import (
    Fault,
    TimedFault,
    parse_fault,
    parse_timed_fault,
)

__all__ = [
    "Fault",
    "LinkConditions",
    "LocalSite",
    "Site",
    "SmallDisk",
    "TcpProxy",
    "TimedFault",
    "inject",
    "parse_fault",
    "parse_timed_fault",
]
