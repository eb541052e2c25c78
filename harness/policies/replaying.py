"""Runs the case of a finding once more, on a database that holds the schema."""

from __future__ import annotations

from dataclasses import replace

from harness.db.address import Connection
from harness.db.catalog import Catalog, Function
from harness.db.catalog_reading import read_catalog
from harness.events import Probe
from harness.policies.cases import Expectation
from harness.policies.personas import Persona
from harness.policies.probing import Attempt, Prober, install_probes
from harness.policies.repairs import attempt_repaired
from harness.policies.shrinking import ShrunkCase, case_attempt, setup_statements

__all__ = ["fault_shows", "probe_of"]


def probe_of(shrunk: ShrunkCase, catalog: Catalog) -> Probe:
    """Return what shows the fault, without the world it was found in."""
    case = shrunk.case
    plain = replace(case, repairs=())
    attempt = case_attempt(plain, setup_statements(plain, shrunk, catalog))
    called = case.steps[-1].target
    is_call = case.steps[-1].action == "call"
    mended = case.repairs or (is_call and case.settings)
    repaired = str(called) if called and mended else ""
    return Probe(
        setup=attempt.setup,
        role=case.persona.role,
        claims=case.persona.claims,
        settings={} if repaired else case.settings,
        commands=attempt.commands,
        fetch=attempt.fetch,
        observe=attempt.observe,
        kind=case.expectation.kind,
        text=case.expectation.text,
        says=case.expectation.says,
        repaired=repaired,
    )


async def fault_shows(connection: Connection, probe: Probe) -> bool:
    """Say whether the fault is still there; nothing that the case did remains.

    ``connection`` is a superuser's, on a database of one's own with the schema.
    """
    await install_probes(connection)
    prober = Prober(connection)
    attempt = Attempt(
        persona=Persona(name="", role=probe.role, kind="plain", claims=probe.claims),
        commands=probe.commands,
        fetch=probe.fetch,
        observe=probe.observe,
        setup=probe.setup,
        settings=probe.settings,
    )
    answer = await prober.attempt(attempt)
    if probe.repaired:
        function = _named(await read_catalog(connection), probe.repaired)
        _, answer, _ = await attempt_repaired(prober, attempt, function)
    return Expectation(kind=probe.kind, text=probe.text).holds(answer)


def _named(catalog: Catalog, name: str) -> Function | None:
    schema, _, plain = name.partition(".")
    return next(iter(catalog.functions_named(plain, schema)), None)
