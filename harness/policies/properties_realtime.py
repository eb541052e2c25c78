"""Topics of Realtime: who may listen and speak, as policies on realtime.messages say.

Realtime asks PostgreSQL by writing a probe row for the topic and reading it as the
subscriber.  The same is done here for a topic of each clan, spelled as the policies
expect it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from harness.db.catalog import Name, Policy
from harness.policies.cases import Case, Expectation, Step, Violation
from harness.policies.comparisons import Col, Const, Joined, Term, Uid
from harness.policies.mining import TopicUse
from harness.policies.personas import Persona, User
from harness.policies.population import StoredRow
from harness.policies.probing import Answer, Attempt
from harness.policies.properties_rows import rank
from harness.policies.trial import Judgement, Trial
from harness.policies.values import literal
from harness.policies.witness import describe

__all__ = ["topics_reach_only_their_own"]

MESSAGES = Name("realtime", "messages")
PERSONAL_WORDS = re.compile(
    r"^(users?|persons?|people|profiles?|members?|accounts?|inbox|notifications?|"
    r"private|dm|me|personal|self)$"
)
EXTENSIONS = ("broadcast", "presence")


async def topics_reach_only_their_own(trial: Trial) -> Judgement:
    """Nobody listens or speaks in a private topic of somebody else."""
    judgement = Judgement()
    relation = trial.catalog.relations.get(MESSAGES)
    for policy in relation.policies if relation is not None else ():
        topics = _topics(trial, policy)
        if not topics:
            continue
        reached = False
        for command in ("SELECT", "INSERT"):
            if policy.command not in (command, "ALL"):
                continue
            for user, topic, rows in topics:
                for persona in trial.personas:
                    if persona.kind == "service":
                        continue
                    extension, answer = await _ask(trial, persona, command, topic)
                    admitted = _admitted(command, answer)
                    reached |= admitted
                    foreign = persona.clan != user.clan and not persona.manages
                    if admitted and foreign:
                        judgement.violations.append(
                            _overheard(persona, policy, command, topic, rows, extension)
                        )
        if not reached:
            name = policy.told
            judgement.undecided[name] = f"no topic found that it admits: {topics[0][1]}"
    return judgement


def _topics(
    trial: Trial, policy: Policy
) -> list[tuple[User, str, tuple[StoredRow, ...]]]:
    """Return a topic for a user of each of two clans; none if topics are shared."""
    uses = _uses(trial, policy)
    cast = trial.population.world.cast
    found = []
    for clan in cast.clans[:2]:
        user = cast.clan(clan)[0]
        topic, rows = _spell(trial, user, uses)
        if not topic:
            topic, rows = _guess(trial, user, uses)
        if topic:
            found.append((user, topic, rows))
    same = len(found) > 1 and found[0][1] == found[1][1]
    return [] if same else found


def _uses(trial: Trial, policy: Policy) -> list[TopicUse]:
    """Return what spells the policy's topics, its own comparisons first.

    Those of other policies count where they speak of topics that begin alike.
    """
    own: list[TopicUse] = []
    others: list[TopicUse] = []
    for use in trial.mined.topics:
        mine = use.policy == (policy.table, policy.name)
        (own if mine else others).append(use)
    words = _words(own)
    by_policy = {
        use.policy: _words([u for u in others if u.policy == use.policy])
        for use in others
    }
    alike = [u for u in others if not words or words & by_policy[u.policy]]
    return [*own, *alike]


def _words(uses: Iterable[TopicUse]) -> set[str]:
    """Return the words that topics begin with."""
    found = set()
    for use in uses:
        term = use.term
        if isinstance(term, Joined):
            term = term.parts[0]
        if use.index < 2 and isinstance(term, Const):
            found |= {
                re.split(r"[^a-z_]", v.lstrip("^").lower())[0] for v in term.values
            }
    return found - {""}


def _guess(
    trial: Trial, user: User, uses: list[TopicUse]
) -> tuple[str, tuple[StoredRow, ...]]:
    """Spell a topic of which only the beginning is known, if it names a kind of row."""
    for use in uses:
        if use.index != 0 or not isinstance(use.term, Const):
            continue
        start = use.term.values[0].rstrip("%*").lstrip("^").removesuffix(".")
        word = re.split(r"[^a-z_]", start.lower())[0]
        if not word or start == use.term.values[0]:
            continue
        if PERSONAL_WORDS.search(word):
            return f"{start}{user.id}", ()
        for table in trial.ownership.tables.values():
            key = trial.catalog.relations[table.table].primary_key
            rows: list[StoredRow] = []
            if len(key) == 1 and _names(word, table.table.name):
                value = _value(trial, user, Col(table.table, key[0]), rows)
                if value:
                    return f"{start}{value}", tuple(rows)
    return "", ()


def _names(word: str, table: str) -> bool:
    singulars = {table, table.removesuffix("s"), table.removesuffix("es")}
    if table.endswith("ies"):
        singulars.add(f"{table[:-3]}y")
    return word in singulars


def _spell(
    trial: Trial, user: User, uses: list[TopicUse]
) -> tuple[str, tuple[StoredRow, ...]]:
    rows: list[StoredRow] = []
    for use in uses:
        if use.index == 0 and isinstance(use.term, Joined):
            parts = [_value(trial, user, part, rows) for part in use.term.parts]
            if all(parts):
                return "".join(p or "" for p in parts), tuple(rows)
    separators = [use.separator for use in uses if use.separator]
    separator = separators[0] if separators else ":"
    named: dict[int, str] = {}
    for use in uses:
        value = _value(trial, user, use.term, rows)
        if use.index > 0 and value:
            named.setdefault(use.index, value)
    if not any(not isinstance(u.term, Const) for u in uses if u.index in named):
        return "", ()
    prefix = _prefix(uses, separator)
    words = [
        named.get(i) or (prefix if i == 1 else "any")
        for i in range(1, max(named, default=0) + 1)
    ]
    return separator.join(words), tuple(rows)


def _prefix(uses: Iterable[TopicUse], separator: str) -> str:
    """Return what topics begin with, from ``like 'room:%'``."""
    for use in uses:
        if use.index == 0 and isinstance(use.term, Const):
            return use.term.values[0].partition(separator)[0].rstrip("%").lstrip("^")
    return "topic"


def _value(trial: Trial, user: User, term: Term, rows: list[StoredRow]) -> str | None:
    if isinstance(term, Uid):
        return user.id
    if isinstance(term, Const):
        return term.values[0]
    if isinstance(term, Col):
        stored = trial.population.owned_by(term.table, user.clan)
        mine = [row for row in stored if user.id in row.users] or list(stored)
        cast = trial.population.world.cast
        stranger, themselves = cast.persona("carol"), cast.persona(user.name)
        # What strangers may see by design says nothing about their topics, and what
        # the user does not see is no topic of theirs.
        mine.sort(
            key=lambda row: (
                not trial.decisions.may(themselves, "SELECT", row),
                trial.decisions.may(stranger, "SELECT", row),
            )
        )
        for row in mine:
            if row.text(term.column):
                rows.append(row)
                return row.text(term.column)
    return None


async def _ask(
    trial: Trial, persona: Persona, command: str, topic: str
) -> tuple[str, Answer]:
    """Ask for both extensions; return the one that was admitted, if any."""
    attempts = [_attempt(persona, command, topic, e) for e in EXTENSIONS]
    answers = await trial.prober.attempt_all(attempts)
    for extension, answer in zip(EXTENSIONS, answers, strict=True):
        if _admitted(command, answer):
            return extension, answer
    return EXTENSIONS[0], answers[0]


def _probe_row(topic: str, extension: str) -> str:
    return (
        "insert into realtime.messages (topic, extension, payload, event, private)"
        f" values ({literal(topic)}, {literal(extension)}, '{{}}', 'probe', true)"
    )


def _attempt(persona: Persona, command: str, topic: str, extension: str) -> Attempt:
    settings = {"realtime.topic": topic}
    if command == "INSERT":
        write = (
            "insert into realtime.messages (topic, extension)"
            f" values ({literal(topic)}, {literal(extension)})"
        )
        return Attempt(persona=persona, commands=(write,), settings=settings)
    return Attempt(
        persona=persona,
        setup=(_probe_row(topic, extension),),
        fetch=f"select to_jsonb(count(*)) from realtime.messages"
        f" where topic = {literal(topic)}",
        settings=settings,
    )


def _admitted(command: str, answer: Answer) -> bool:
    return answer.ok and (command == "INSERT" or bool(answer.fetched))


def _overheard(
    persona: Persona,
    policy: Policy,
    command: str,
    topic: str,
    rows: tuple[StoredRow, ...],
    extension: str,
) -> Violation:
    verb = "listen to" if command == "SELECT" else "speak in"
    attempt = _attempt(persona, command, topic, extension)
    if command == "SELECT":
        look = f"select * from realtime.messages where topic = {literal(topic)}"
        step, kind = Step(sql=look), "affects"
    else:
        step, kind = Step(sql=attempt.commands[0]), "succeeds"
    return Violation(
        check="topics_reach_only_their_own",
        where=policy.told,
        fault=command,
        message=f"{describe(persona)} can {verb} topic {topic}, which is another's",
        case=Case(
            persona=persona,
            steps=(step,),
            expectation=Expectation(
                kind="affects" if kind == "affects" else "succeeds",
                says="must return no row" if kind == "affects" else "must be refused",
            ),
            rows=rows,
            repairs=attempt.setup,
            settings=attempt.settings,
        ),
        severity="critical",
        hint="compare the topic with the caller or with a membership",
        rank=rank(persona),
    )
