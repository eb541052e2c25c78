"""Which arguments to call a function with: the caller's own, and another's.

What a parameter means is read from the body (``where user_id = p_user``, a column it is
stored in, a helper it is passed to) and, failing that, from its name and type.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.db.catalog import Catalog, Column, Function, Name, Parameter, Relation
from harness.policies.cases import Step
from harness.policies.comparisons import UID, Col, Const, Param, Reading, read_body
from harness.policies.personas import Persona
from harness.policies.population import StoredRow, as_text
from harness.policies.storage_paths import OBJECTS
from harness.policies.trial import Trial
from harness.policies.values import NUMBER_TYPES, literal, pattern_example

__all__ = ["Call", "call_about", "callable_functions", "plan_calls", "plan_team_calls"]

MAX_ROWS = 4
MAX_MIXED = 3
MAX_JOINT = 4
USER_WORDS = re.compile(
    r"(^|_)(user|uid|owner|profile|member|author|account|target|recipient|friend|"
    r"customer|student|patient|sender|receiver|invitee|who)(_?id|_?uuid)?$"
)
MIME_WORDS = re.compile(r"mime|content_?type")
PNG_HEADER = "\\x89504e470d0a1a0a"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a parameter stands for: a user, a column, or just its type."""

    user: bool = False
    column: Col | None = None
    constants: tuple[str, ...] = ()
    stored: bool = False
    # Every column that the parameter meets, of which ``column`` is the first.
    met: tuple[Col, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call of ``function``; ``about`` are the rows its arguments come from.

    ``scope`` is ``own``, ``team`` or ``foreign``; ``victim`` is the clan that the
    arguments name.
    """

    function: Function
    arguments: Mapping[str, str | None]
    scope: str
    about: tuple[StoredRow, ...] = ()
    victim: str = ""

    @property
    def step(self) -> Step:
        """The call as a statement."""
        parameters = {p.name: p for p in self.function.parameters}
        if all(parameters):
            shown = ", ".join(
                f"{_spread(parameters[name])}{name} => "
                f"{literal(value)}::{parameters[name].type}"
                for name, value in self.arguments.items()
            )
        else:
            shown = ", ".join(
                f"{_spread(parameter)}{literal(value)}::{parameter.type}"
                for parameter, value in zip(
                    self.function.parameters, self.arguments.values(), strict=False
                )
            )
        return Step(
            sql=f"select * from {self.function.name.sql}({shown})",
            action="call",
            target=self.function.name,
            values=self.arguments,
        )


def callable_functions(catalog: Catalog, role: str) -> Iterator[Function]:
    """Yield the functions that ``role`` can call through the API."""
    for function in catalog.functions:
        plain = function.kind == "f" and not function.is_trigger
        if plain and role in function.executable_by:
            yield function


def meanings(function: Function, trial: Trial) -> dict[str, Meaning]:
    """Return what each parameter of ``function`` stands for."""
    reading = read_body(function, trial.catalog)
    return {
        parameter.name or f"${position}": _meaning(parameter, position, reading, trial)
        for position, parameter in enumerate(function.parameters, 1)
    }


def _meaning(
    parameter: Parameter, position: int, reading: Reading, trial: Trial
) -> Meaning:
    param = Param(parameter.name or f"${position}")
    constants: list[str] = []
    columns: list[Col] = []
    for comparison in reading.comparisons:
        for left, right in comparison.pairs():
            if left != param:
                continue
            if right == UID:
                return Meaning(user=True, met=tuple(columns))
            if isinstance(right, Const):
                constants += _suiting(comparison.operator, right.values)
            elif isinstance(right, Col):
                columns.append(right)
    stored = [column for column, term in reading.assignments if term == param]
    meaning = _choose(parameter, columns + stored, constants, trial)
    return replace(
        meaning,
        stored=not columns and meaning.column in stored,
        met=(*columns, *stored),
    )


def _suiting(operator: str, values: tuple[str, ...]) -> list[str]:
    """Return values that meet (or rather, are met by) a comparison's constants."""
    if operator in ("~", "~*"):
        return [found for v in values if (found := pattern_example(v)) is not None]
    return list(values) if operator in ("=", "<>") else []


def _choose(
    parameter: Parameter, columns: list[Col], constants: list[str], trial: Trial
) -> Meaning:
    for column in columns:
        if column.column in trial.ownership.of(column.table).user_names:
            return Meaning(user=True)
    known = [c for c in columns if c.table in trial.catalog.relations and not c.path]
    if known:
        return Meaning(column=known[0], constants=tuple(constants))
    if parameter.type == "uuid":
        if USER_WORDS.search(parameter.name):
            return Meaning(user=True)
        named = _named_table(parameter.name, trial.catalog)
        return Meaning(column=named) if named else Meaning(user=True)
    return Meaning(constants=tuple(constants))


def _named_table(parameter: str, catalog: Catalog) -> Col | None:
    """Return the key of the table that a parameter is named after."""
    word = re.sub(r"^(p|_|v|in)_|_?(id|uuid)$", "", parameter)
    if not word:
        return None
    for relation in catalog.tables:
        key = relation.primary_key
        singular = relation.name.name.removesuffix("s")
        if len(key) == 1 and (singular == word or singular.endswith(f"_{word}")):
            return Col(relation.name, key[0])
    return None


def _spread(parameter: Parameter) -> str:
    """Return what says that an array stands for all the last arguments."""
    return "variadic " if parameter.variadic else ""


def plan_calls(trial: Trial, persona: Persona, function: Function) -> list[Call]:
    """Return calls with the persona's own arguments, and with another's."""
    meant = meanings(function, trial)
    planner = _Planner(trial, persona, function, meant)
    calls = [planner.call("own", persona.clan, turn) for turn in range(3)]
    if _names_anybody(meant):
        for victim in _victims(trial, persona):
            calls += [planner.call("foreign", victim, turn) for turn in range(MAX_ROWS)]
            calls += _mixed(planner, victim)
            calls += _joint(planner, "foreign", victim)
        calls += _joint(planner, "own", persona.clan)
    unique: dict[str, Call] = {}
    for call in calls:
        if call is not None:
            unique.setdefault(f"{call.scope} {sorted(call.arguments.items())}", call)
    return list(unique.values())


def _mixed(planner: _Planner, victim: str) -> Iterator[Call | None]:
    """Yield calls with one argument of another's among one's own."""
    keys = [name for name, m in planner.meant.items() if m.user or m.column is not None]
    for name in keys[:MAX_MIXED] if len(keys) > 1 else ():
        planner.foreign = name
        for turn in range(2):
            yield planner.call("foreign", victim, turn)
    planner.foreign = ""


def _joint(planner: _Planner, scope: str, clan: str) -> Iterator[Call | None]:
    """Yield calls with arguments that one row has side by side: a team and its member.

    What is to be stored there differs from what the row says.
    """
    met = [{col.table for col in m.met} for m in planner.meant.values()]
    for table in sorted({t for tables in met for t in tables}, key=str):
        if sum(table in tables for tables in met) < 2:
            continue
        rows = list(planner.trial.population.owned_by(table, clan)) if clan else []
        rows.sort(key=lambda row: planner.persona.sub not in row.users)
        for row in rows[:: max(1, len(rows) // MAX_JOINT)][:MAX_JOINT]:
            given = replace(planner, given={table: row})
            yield given.call(scope, clan, 1)


def plan_team_calls(trial: Trial, persona: Persona, function: Function) -> list[Call]:
    """Return calls about what the persona's clan has and the persona does not own."""
    meant = meanings(function, trial)
    if not persona.clan or not _names_anybody(meant):
        return []
    planner = _Planner(trial, persona, function, meant)
    calls = [planner.call("team", persona.clan, turn) for turn in range(MAX_ROWS)]
    return [call for call in calls if call is not None]


def call_about(
    trial: Trial, persona: Persona, function: Function, rows: Iterable[StoredRow]
) -> Call | None:
    """Return a call with the keys of ``rows``, stored or not; None if it takes none."""
    meant = meanings(function, trial)
    given = {row.table: row for row in rows}
    if not any(m.column and m.column.table in given for m in meant.values()):
        return None
    return _Planner(trial, persona, function, meant, given).call("own", "", 0)


def _names_anybody(meant: Mapping[str, Meaning]) -> bool:
    return any(m.user or m.column is not None for m in meant.values())


def _victims(trial: Trial, persona: Persona) -> Sequence[str]:
    clans = trial.population.world.cast.clans[:2]
    return [clan for clan in clans if clan != persona.clan][:1]


@dataclass
class _Planner:
    trial: Trial
    persona: Persona
    function: Function
    meant: Mapping[str, Meaning]
    given: Mapping[Name, StoredRow] = field(default_factory=dict)
    chosen: dict[Name, StoredRow] = field(default_factory=dict)
    # The one argument that is another's, where the others are the persona's own.
    foreign: str = ""

    def call(self, scope: str, clan: str, turn: int) -> Call | None:
        self.chosen = dict(self.given)
        about: dict[str, StoredRow] = {}
        arguments: dict[str, str | None] = {}
        for position, parameter in enumerate(self.function.parameters, 1):
            name = parameter.name or f"${position}"
            meaning = self.meant[name]
            mixed = bool(self.foreign) and name != self.foreign
            whose = ("own", self.persona.clan) if mixed else (scope, clan)
            if self.foreign:
                self.chosen.clear()
            value = self._value(parameter, meaning, *whose, turn)
            about.update({row.at: row for row in self.chosen.values()})
            if value is None and parameter.has_default:
                continue
            arguments[name] = value
        return Call(
            function=self.function,
            arguments=arguments,
            scope=scope,
            about=tuple(about.values()),
            victim=clan if scope == "foreign" else "",
        )

    def _value(
        self, parameter: Parameter, meaning: Meaning, scope: str, clan: str, turn: int
    ) -> str | None:
        given = next((col for col in meaning.met if col.table in self.given), None)
        if meaning.user and given is not None:
            return _fitting(parameter, self.given[given.table].text(given.column))
        if meaning.user:
            return _fitting(parameter, self._user(scope, clan, turn))
        if MIME_WORDS.search(parameter.name):
            return "text/html" if turn == 2 else self._by_type(parameter)
        column = given or meaning.column
        if column is not None:
            found = self._column(parameter, column, scope, clan, turn)
            if found is not None and meaning.stored and turn % 2:
                return self._another(parameter, column, found)
            if found is not None:
                return found
            constants = self.trial.mined.constants.get(column, ())
            if constants:
                return constants[turn % len(constants)]
        if parameter.type in NUMBER_TYPES and turn % 2:
            return "1"
        if meaning.constants and turn and parameter.type == "text":
            return meaning.constants[(turn - 1) % len(meaning.constants)]
        return self._by_type(parameter)

    def _another(self, parameter: Parameter, col: Col, value: str) -> str | None:
        """Return a value to store that differs from the one that is there."""
        relation = self.trial.catalog.relations[col.table]
        column = relation.column(col.column)
        known = [*self.trial.mined.constants.get(col, ()), *column.labels]
        if parameter.type.partition("(")[0] in NUMBER_TYPES:
            return "2" if float(value) == 1 else "1"
        if parameter.type == "boolean":
            known += ["true", "false"]
        elif not known and parameter.type == "text":
            known = [self.trial.values.fresh(relation, column) or value]
        return next((v for v in known if v != value), value)

    def _user(self, scope: str, clan: str, turn: int) -> str | None:
        if scope == "own":
            return self.persona.sub or None
        users = self.trial.population.world.cast.clan(clan)
        return users[turn // 2 % len(users)].id if users else None

    def _column(
        self, parameter: Parameter, column: Col, scope: str, clan: str, turn: int
    ) -> str | None:
        row = self.chosen.get(column.table)
        if row is None:
            rows = self._rows(column.table, scope, clan)
            if not rows:
                return None
            row = rows[turn * max(1, len(rows) // MAX_ROWS) % len(rows)]
            self.chosen[column.table] = row
        value = row.values.get(column.column)
        if isinstance(value, list) and not parameter.type.endswith("[]"):
            value = value[0] if value else None
        return _fitting(parameter, as_text(value), value)

    def _rows(self, table: Name, scope: str, clan: str) -> list[StoredRow]:
        stored = self.trial.population.of(table)
        rows = [row for row in stored if row.clan == clan and clan]
        if scope == "own" and self.persona.sub:
            mine = [row for row in rows if self.persona.sub in row.users]
            rows = mine or rows
        if scope == "team":
            rows = [r for r in rows if self.persona.sub not in r.users] or rows
        if scope == "foreign":
            decisions = self.trial.decisions
            used = self._used(table)
            rows.sort(
                key=lambda r: (
                    decisions.may(self.persona, "SELECT", r),
                    used.isdisjoint(str(value) for value in r.values.values()),
                )
            )
        return rows or [row for row in stored if not row.clan]

    def _used(self, table: Name) -> set[str]:
        """Return the keys of ``table`` that rows elsewhere refer to."""
        return {
            str(row.values.get(column))
            for relation in self.trial.catalog.tables
            for key in relation.foreign_keys
            if key.target == table and len(key.columns) == 1
            for column in key.columns
            for row in self.trial.population.of(relation.name)
        }

    def _by_type(self, parameter: Parameter) -> str | None:
        if MIME_WORDS.search(parameter.name):
            buckets = self.trial.catalog.buckets
            mimes = [m for b in buckets for m in b.allowed_mime_types]
            return mimes[0] if mimes else "image/png"
        if parameter.type == "bytea":
            return PNG_HEADER
        column = Column(
            name=parameter.name or "value",
            type=parameter.type,
            base_type=parameter.type,
        )
        relation = Relation(name=OBJECTS, kind="table", owner="")
        if "file_name" in parameter.name or parameter.name.endswith("filename"):
            return f"{self.trial.values.fresh(relation, column)}.png"
        return self.trial.values.fresh(relation, column)


def _fitting(parameter: Parameter, text: str | None, value: object = "") -> str | None:
    """Return one value as an array of it where the parameter is an array."""
    wrapped = parameter.type.endswith("[]") and not isinstance(value, list)
    return f'{{"{text}"}}' if wrapped and text is not None else text
