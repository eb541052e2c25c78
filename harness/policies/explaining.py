"""Says why a policy lets a stranger see a row: by design or by a fault.

A row is public by design when some branch (a conjunction) of a policy admits it without
asking about the caller's relation to the row: ``true``, ``is_published``, "signed in",
a bucket.  If every branch that is true mentions the caller and the row, or looks up who
is a member, although the caller has nothing to do with the row, the branch is broken.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pglast import enums

from harness.db.catalog import Catalog, Name, Policy, Relation
from harness.policies.comparisons import (
    UID,
    Claim,
    Clock,
    Col,
    Const,
    Folder,
    Opaque,
    Reading,
    read_condition,
)
from harness.policies.decisions import row_filter
from harness.policies.mining import Mined
from harness.policies.ownership import Ownership, Part, pairs_users
from harness.policies.personas import Persona
from harness.policies.population import Population, StoredRow
from harness.policies.probing import Attempt, Prober
from harness.policies.public_marks import Mark, bears, marks_of, shuts
from harness.policies.syntax import Tree, ast, deparse, disjuncts, parse_condition
from harness.policies.table_order import BARRING_NAME
from harness.policies.trial import Trial

__all__ = ["Branch", "Explainer", "promises_privacy", "promises_publicity"]

PRIVATE_WORDS = re.compile(
    r"\b(own|owns|owner|owners|owned|their|theirs|my|mine|self|themselves|private|"
    r"members?|teammates?|participants?|collaborators?|assigned|admins?|"
    r"administrators?|staff|managers?|moderators?|only)\b",
    re.IGNORECASE,
)
PUBLIC_WORDS = re.compile(
    r"\b(public|publicly|anyone|everyone|everybody|all users|any user|"
    r"are known|are visible|are listed|all authenticated|any authenticated|"
    r"authenticated users|signed.in users|"
    r"logged.in users|visible to all|readable by all|viewable by|published|world)\b",
    re.IGNORECASE,
)

# That a row is still there says nothing about whom it is for.
GONE_NAME = re.compile(r"(^|_)(deleted|removed|trashed)(_at|_on)?$")


def promises_privacy(policy: Policy) -> bool:
    """Say whether a policy's name says that it is for the owner, members or staff.

    The name of the table says what the policy is on, not whom it is for.
    """
    table = re.escape(policy.table.name)
    pattern = re.compile(rf"(?<![a-z]){table}(?![a-z])", re.IGNORECASE)
    named = pattern.sub(" ", policy.name)
    words = re.sub(r"[_\-:]+", " ", named)
    return bool(PRIVATE_WORDS.search(words)) and not PUBLIC_WORDS.search(words)


def promises_publicity(policy: Policy) -> bool:
    """Say whether a policy's name says that it is for everybody."""
    words = re.sub(r"[_\-:]+", " ", policy.name)
    return bool(PUBLIC_WORDS.search(words)) and not PRIVATE_WORDS.search(words)


@dataclass(frozen=True, slots=True)
class Atom:
    """One condition of a branch and what it depends on."""

    sql: str
    by_design: bool
    reason: str
    asks_row: bool = False
    marks: tuple[Mark, ...] = ()
    plain: bool = False
    opens: bool = False
    timed: bool = False


@dataclass(frozen=True, slots=True)
class Branch:
    """A conjunction of a policy that was true for somebody and a row."""

    policy: Policy
    atoms: tuple[Atom, ...]
    # Another condition of the same policy opens only what bears a public mark.
    partly_public: bool = False

    @property
    def selective(self) -> bool:
        """Whether it asks anything of the row."""
        return any(atom.asks_row for atom in self.atoms)

    @property
    def by_design(self) -> bool:
        """Whether every condition admits by design, and the name does not object."""
        if not all(atom.by_design for atom in self.atoms):
            return False
        return self.selective or not promises_privacy(self.policy)


@dataclass
class Explainer:
    """Evaluates the branches of policies as a persona and judges them."""

    catalog: Catalog
    mined: Mined
    ownership: Ownership
    prober: Prober
    population: Population
    _vacuous: dict[tuple[Name, str], bool] = field(default_factory=dict)
    _branches: dict[tuple[Name, str], list[tuple[Policy, tuple[str, ...]]]] = field(
        default_factory=dict
    )
    _atoms: dict[tuple[Name, str], Atom] = field(default_factory=dict)

    @classmethod
    def of(cls, trial: Trial) -> Explainer:
        """Return an explainer of the decisions of ``trial``."""
        return cls(
            trial.catalog,
            trial.mined,
            trial.ownership,
            trial.prober,
            trial.population,
        )

    async def true_branches(
        self, persona: Persona, relation: Relation, row: StoredRow, command: str
    ) -> list[Branch]:
        """Return the branches that are true for ``persona`` and ``row``."""
        branches = self._of(relation, command, persona.role)
        if not branches:
            return []
        tests = ", ".join(
            f"coalesce(({' and '.join(f'({atom})' for atom in atoms)}), false)"
            for _, atoms in branches
        )
        answer = await self.prober.attempt(
            Attempt(
                persona=persona,
                fetch=f"select jsonb_build_array({tests}) from {relation.name.sql}"
                f" where {row_filter(relation, row)}",
            )
        )
        truths: Sequence[bool] = answer.fetched or []
        return [
            await self._branch(relation, row, command, policy, atoms, persona.role)
            for (policy, atoms), true in zip(branches, truths, strict=False)
            if true
        ]

    async def _branch(
        self,
        relation: Relation,
        row: StoredRow,
        command: str,
        policy: Policy,
        atoms: tuple[str, ...],
        role: str,
    ) -> Branch:
        judged = tuple([await self._on(relation, row, atom) for atom in atoms])
        beside = [
            other
            for its, other in self._of(relation, command, role)
            if its.name == policy.name and other != atoms
        ]
        found = [self._atom(relation, atom) for other in beside for atom in other]
        partly = any(atom.marks or atom.opens for atom in found)
        plain = [
            list(other)
            for other in [atoms, *beside]
            if all(self._atom(relation, atom).plain for atom in other)
        ]
        timed = [self._atom(relation, atom) for atom in atoms]
        if partly and all(atom.timed for atom in timed):
            # Not yet begun, or not over: that opens no draft.
            judged = tuple(replace(atom, asks_row=False) for atom in judged)
        branch = Branch(policy, judged, partly_public=partly)
        if list(atoms) not in plain or len(plain) < 2 or not branch.by_design:
            return branch
        # Who lists every state there is selects nothing.
        whole = " or ".join(f"({' and '.join(other)})" for other in plain)
        if not await self._is_vacuous(relation, whole):
            return branch
        blunt = tuple(replace(atom, asks_row=False) for atom in judged)
        return replace(branch, atoms=blunt)

    async def _on(self, relation: Relation, row: StoredRow, sql: str) -> Atom:
        """Judge a condition that is true of ``row``."""
        atom = self._atom(relation, sql)
        if atom.marks:
            public = bears(row, atom.marks, self.catalog, self.population)
            return atom if public else replace(atom, by_design=False)
        files = relation.name == Name("storage", "objects")
        if files and atom.asks_row and not (await self._asks_files(relation, atom)):
            return replace(atom, asks_row=False)
        if atom.plain and await self._is_vacuous(relation, sql):
            return replace(atom, by_design=False, reason="is true of every row")
        return atom

    async def _asks_files(self, relation: Relation, atom: Atom) -> bool:
        """Say whether a condition of names alone tells one file from another."""
        reading = read_condition(atom.sql, relation.name, self.catalog)
        alone = not (reading.caller or reading.reads or reading.calls)
        return not (alone and await self._is_vacuous(relation, atom.sql))

    async def _is_vacuous(self, relation: Relation, sql: str) -> bool:
        key = (relation.name, sql)
        if key not in self._vacuous:
            service = self.population.world.cast.persona("service_role")
            answer = await self.prober.attempt(
                Attempt(
                    persona=service,
                    fetch=f"select to_jsonb(bool_and(({sql}) is true))"
                    f" from {relation.name.sql}",
                )
            )
            self._vacuous[key] = answer.ok and answer.fetched is True
        return self._vacuous[key]

    def _of(
        self, relation: Relation, command: str, role: str
    ) -> list[tuple[Policy, tuple[str, ...]]]:
        key = (relation.name, f"{command} {role}")
        if key not in self._branches:
            self._branches[key] = [
                (policy, tuple(deparse(atom) for atom in conjunction))
                for policy in relation.policies
                if policy.permissive and policy.applies_to(command, role)
                if (node := parse_condition(policy.old_row_condition(command)))
                for conjunction in disjuncts(node)
            ]
        return self._branches[key]

    def _atom(self, relation: Relation, sql: str) -> Atom:
        key = (relation.name, sql)
        if key not in self._atoms:
            reading = read_condition(sql, relation.name, self.catalog)
            self._atoms[key] = self._judge(relation, sql, reading)
        return self._atoms[key]

    def _judge(self, relation: Relation, sql: str, reading: Reading) -> Atom:
        row_columns = {c for c in reading.columns if c.table == relation.name}
        row_columns |= _argument_columns(reading, relation.name)
        keyed = self._keyed(relation, row_columns) or _folders(reading)
        if reading.tautology:
            return Atom(sql, False, "compares a column with itself")
        asks_row = any(c.column != "bucket_id" for c in row_columns)
        asks_row = asks_row and not all(GONE_NAME.search(c.column) for c in row_columns)
        if not keyed and self._asks_for_any(reading):
            return Atom(sql, False, "asks if the caller has any such row, not this one")
        if not keyed and shuts(sql):
            return Atom(sql, False, "admits what is not meant for everybody", True)
        if not keyed:
            plain = asks_row and not (reading.caller or reading.reads)
            plain = plain and relation.name != Name("storage", "objects")
            reason = "does not ask whose row it is"
            opens = plain and bool(marks_of(reading))
            told = [r for c in reading.comparisons for _, r in c.pairs()]
            timed = plain and not opens and any(isinstance(r, Clock) for r in told)
            return Atom(
                sql, True, reason, asks_row, plain=plain, opens=opens, timed=timed
            )
        if reading.caller and self._bars_some(sql, reading):
            return Atom(sql, True, "keeps out those who are barred", True)
        if reading.caller:
            reason = "asks about the caller and the row"
            marks = marks_of(reading)
            return Atom(sql, bool(marks), reason, True, marks)
        if self._halves(relation, row_columns, reading):
            return Atom(sql, False, "compares one column of a key and not the other")
        if not reading.reads and self._owner_columns(relation, row_columns):
            return Atom(sql, False, "reads whose row it is, but not who asks")
        if self._looks_up_members(reading):
            return Atom(sql, False, "looks up members without asking for the caller")
        if self._looks_past_policies(reading) and not self._asks_a_flag(reading):
            return Atom(sql, False, "looks things up without asking for the caller")
        plain = not reading.reads
        return Atom(sql, True, "depends on the row only", True, plain=plain)

    def _keyed(self, relation: Relation, columns: set[Col]) -> bool:
        owned = self.ownership.of(relation.name)
        keys = {*owned.user_names, *owned.tenants, *relation.primary_key}
        keys |= {c for parent in owned.parents for c in parent.columns}
        if relation.name == Name("storage", "objects"):
            keys = {"owner", "owner_id"}
        return any(column.column in keys for column in columns)

    def _halves(self, relation: Relation, columns: set[Col], reading: Reading) -> bool:
        """Say whether a row is looked up by a part of the key that it refers to."""
        named = {column.column for column in columns}
        return any(
            len(parent.columns) > 1
            and parent.target in reading.reads
            and named & set(parent.columns)
            and not named >= set(parent.columns)
            for parent in self.ownership.of(relation.name).parents
        )

    def _asks_for_any(self, reading: Reading) -> bool:
        """Say whether the caller's rows elsewhere are counted, whatever they belong to.

        Tables whose rows grant powers may be asked like that; what people own may not.
        """
        granting = {a.table for a in self.ownership.attributes}
        pairs = [p for c in reading.comparisons for p in c.pairs()]
        asked = {
            left.table
            for left, right in pairs
            if isinstance(left, Col) and right == UID and left.table in reading.reads
        }
        return any(
            table not in granting
            and self._is_entity(table)
            and not any(
                _flags(left, right, table) and not self._is_key(table, left)
                for left, right in pairs
            )
            for table in asked
        )

    def _is_key(self, table: Name, column: object) -> bool:
        """Say whether a column says what a row belongs to, not how it stands."""
        owned = self.ownership.of(table)
        keys = {*owned.user_names, *owned.tenants}
        keys |= {name for parent in owned.parents for name in parent.columns}
        return isinstance(column, Col) and column.column in keys

    def _bars_some(self, sql: str, reading: Reading) -> bool:
        """Say whether all are let in but those whom a list keeps out (a ban)."""
        node: Tree = parse_condition(sql)
        negation = enums.BoolExprType.NOT_EXPR
        negated = isinstance(node, ast.BoolExpr) and node.boolop == negation
        return negated and any(
            BARRING_NAME.search(table.name)
            or pairs_users(self.ownership.of(table), self.mined)
            for table in reading.reads
        )

    def _is_entity(self, table: Name) -> bool:
        """Say whether other tables hang on this one, or it links users to something."""
        return self.ownership.of(table).membership or any(
            key.target == table
            for relation in self.catalog.tables
            for key in relation.foreign_keys
            if relation.name != table
        )

    def _looks_past_policies(self, reading: Reading) -> bool:
        """Say whether a SECURITY DEFINER helper answers, which no policy restrains."""
        called = {call.function for call in reading.calls}
        return bool(reading.reads) and any(
            function.security_definer
            for function in self.catalog.functions
            if function.name in called
        )

    def _asks_a_flag(self, reading: Reading) -> bool:
        """Say whether some column is tested that does not name anybody."""
        return any(
            isinstance(left, Col)
            and isinstance(right, (Const, Clock, Opaque))
            and (comparison.operator in ("is true", "is null") or _flag_value(right))
            and not self._is_key(left.table, left)
            for comparison in reading.comparisons
            for left, right in comparison.pairs()
        )

    def _owner_columns(self, relation: Relation, columns: set[Col]) -> bool:
        owned = self.ownership.of(relation.name)
        kinds = (Part.OWNER, Part.MEMBER)
        owners = {u.column for u in owned.users if u.part in kinds} | {*owned.tenants}
        for parent in owned.parents:
            # A parent that a claim names is a tenant with a table of its own.
            cols = {Col(relation.name, column) for column in parent.columns}
            claimed = any(cols & named for named in self.mined.claim_columns.values())
            membered = any(
                parent.target == other.target
                for table in self.ownership.tables.values()
                if table.membership
                for other in table.parents
            )
            if claimed or membered:
                owners |= set(parent.columns)
        return any(column.column in owners for column in columns)

    def _looks_up_members(self, reading: Reading) -> bool:
        return any(self.ownership.of(table).membership for table in reading.reads)


def _argument_columns(reading: Reading, table: Name) -> set[Col]:
    return {
        argument
        for call in reading.calls
        for argument in call.arguments
        if isinstance(argument, Col) and argument.table == table
    }


def _folders(reading: Reading) -> bool:
    return any(
        isinstance(side, Folder)
        for comparison in reading.comparisons
        for side in (comparison.left, comparison.right)
    )


def _flags(left: object, right: object, table: Name) -> bool:
    """Say whether a column of ``table`` is compared with a constant or the clock."""
    here = isinstance(left, Col) and left.table == table
    return here and isinstance(right, (Const, Clock, Opaque, Claim))


def _flag_value(term: object) -> bool:
    words = ("public", "published", "true", "open", "everyone", "all", "visible")
    return isinstance(term, Const) and any(v.lower() in words for v in term.values)
