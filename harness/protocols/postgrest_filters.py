"""The filter grammar: operators, their modifiers, and ``and``/``or`` trees.

``column=not.eq.value``, ``column=like(any).{a*,b*}``, ``column=in.(1,2)``,
``or=(a.eq.1,not.and(b.gt.2,c.is.null))``.  Values stay text: PostgreSQL gives them the
type of what they are compared with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal as OneOf
from typing import NamedTuple

from harness.protocols.postgrest_errors import RestError
from harness.protocols.postgrest_scanner import AFTER_NAME, MAX_DEPTH, Field, Scanner

__all__ = [
    "Filter",
    "Literal",
    "Logic",
    "Operation",
    "array_literal",
    "filter_with_value",
    "operation_prefix",
    "parse_columns",
    "parse_filter",
    "parse_logic",
    "parse_operation",
    "parse_path",
    "starts_as_operation",
]

Quantifier = OneOf["any", "all"]

# The SQL operator of each name.
PLAIN_OPERATORS = {
    "neq": "<>",
    "cs": "@>",
    "cd": "<@",
    "ov": "&&",
    "sl": "<<",
    "sr": ">>",
    "nxr": "&<",
    "nxl": "&>",
    "adj": "-|-",
}
QUANTIFIED_OPERATORS = {
    "eq": "=",
    "gte": ">=",
    "gt": ">",
    "lte": "<=",
    "lt": "<",
    "like": "LIKE",
    "ilike": "ILIKE",
    "match": "~",
    "imatch": "~*",
}
TEXT_SEARCH_FUNCTIONS = {
    "fts": "to_tsquery",
    "plfts": "plainto_tsquery",
    "phfts": "phraseto_tsquery",
    "wfts": "websearch_to_tsquery",
}
BARE_OPERATORS = (*PLAIN_OPERATORS, "isdistinct", "in", "is")
IS_VALUES = ("null", "not_null", "true", "false", "unknown")
OPERATOR_HINT = "operator (eq, gt, ...)"
CONDITION_HINTS = (
    "field name (* or [a..z0..9_$])",
    "negation operator (not)",
    "logic operator (and, or)",
)

_OPERATOR = re.compile(r"([a-z]+)(?:\(([\w $]+)\))?\.")
_KNOWN_OPERATOR = re.compile(
    "|".join(
        sorted(
            [*BARE_OPERATORS, *QUANTIFIED_OPERATORS, *TEXT_SEARCH_FUNCTIONS],
            key=len,
            reverse=True,
        )
    )
)
_CONNECTIVE = re.compile(r"(not\.)?(and|or)[ \t]*\(")
_LIST_ELEMENT = re.compile(r"[^,)]*")
_ARRAY = re.compile(r"\{[^{}]*\}(?=[,)]|\Z)")


class Literal(str):
    """A value that may differ between requests of one shape; ``slot`` counts them."""

    __slots__ = ("slot",)
    slot: int


class Operation(NamedTuple):
    """What a field is compared with; for ``in``, ``value`` is an array literal."""

    operator: str
    value: str
    negated: bool = False
    quantifier: Quantifier | None = None
    language: str | None = None


class Filter(NamedTuple):
    """One condition on one field."""

    field: Field
    operation: Operation


class Logic(NamedTuple):
    """Conditions joined by ``and`` or ``or``."""

    connective: OneOf["and", "or"]
    negated: bool
    operands: tuple[Filter | Logic, ...]


Path = tuple[str, ...]

_PREFIX = re.compile(
    r"(?:not\.)?"
    rf"(?:(?:{'|'.join([*PLAIN_OPERATORS, 'isdistinct'])})"
    rf"|(?:{'|'.join(QUANTIFIED_OPERATORS)})(?:\((?:any|all)\))?)\."
)
_LIST_PREFIX = re.compile(r"(?:not\.)?in\.")


def array_literal(values: Iterable[str]) -> str:
    """Return a text array as PostgreSQL writes it."""
    return "{" + ",".join(_array_element(value) for value in values) + "}"


def _array_element(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def operation_prefix(text: str) -> tuple[str, str] | None:
    """Split a filter into its operator and its value, where that is plain to see.

    ``None`` for what only the grammar can tell (``is``, text search, mistakes).
    """
    match = _PREFIX.match(text)
    if match is not None:
        prefix = match.group()
        return prefix, _value_of(prefix, text[match.end() :])
    match = _LIST_PREFIX.match(text)
    if match is None:
        return None
    return match.group(), parse_operation(text).value


def _value_of(prefix: str, value: str) -> str:
    # A star is easier to send than a percent sign.
    return value.replace("*", "%") if "like" in prefix else value


def starts_as_operation(value: str) -> bool:
    """Tell whether ``value`` begins with an operator: the rule for RPC arguments."""
    head, dot, _ = value.partition(".")
    if dot and (
        head in ("not", "is", "in", "isdistinct")
        or head in PLAIN_OPERATORS
        or head in QUANTIFIED_OPERATORS
        or head in TEXT_SEARCH_FUNCTIONS
    ):
        return True
    name, paren, _ = value.partition("(")
    return bool(paren) and (
        name in TEXT_SEARCH_FUNCTIONS or name in QUANTIFIED_OPERATORS
    )


def parse_path(key: str) -> tuple[Path, Field]:
    """Split ``embed.embed.column->json`` into the embeds and the field."""
    scanner = Scanner(key, "tree path")
    names = [scanner.name()]
    while scanner.take("."):
        names.append(scanner.name())
    path = scanner.json_path()
    scanner.end('"->"', '"."')
    return tuple(names[:-1]), Field(names[-1], path)


def parse_filter(key: str, value: str) -> tuple[Path, Filter]:
    """Return the embeds that a filter stands on, and the filter."""
    path, field = parse_path(key)
    return path, Filter(field, parse_operation(value))


def filter_with_value(key: str, prefix: str, value: str) -> tuple[Path, Filter]:
    """Return a filter whose operator was split off by :func:`operation_prefix`."""
    path, field = parse_path(key)
    sample = f"{prefix}()" if prefix.endswith("in.") else prefix
    operation = parse_operation(sample)
    return path, Filter(field, operation._replace(value=value))


def parse_operation(value: str) -> Operation:
    """Return the operation of a filter whose value runs to the end."""
    # What follows a complete "in" or "is" is passed over, as PostgREST does: clients
    # that do not escape quotes in a list send such remains.
    return _operation(Scanner(value, "filter"), in_tree=False)


def parse_logic(key: str, value: str) -> tuple[Path, Logic]:
    """Return the embeds that an ``and=``/``or=`` parameter stands on, and its tree."""
    scanner = Scanner(key, "logic path")
    names = [scanner.name()]
    while scanner.take("."):
        names.append(scanner.name())
    scanner.end('"."')
    path = tuple(name for name in names[:-1] if name != "not")
    negated = "not" in names[:-1]
    # The connective stands in the key; putting it back gives every tree one form.
    text = f"{'not.' if negated else ''}{names[-1]}{value}"
    tree = Scanner(text, "logic tree", value)
    # What follows the closing bracket is passed over, as PostgREST does.
    parsed = _tree(tree, depth=0)
    if not isinstance(parsed, Logic):
        raise tree.error("logic operator (and, or)")
    return path, parsed


def parse_columns(text: str, subject: str) -> tuple[str, ...]:
    """Return the names of a ``columns`` or ``on_conflict`` parameter."""
    scanner = Scanner(text, f"{subject} parameter")
    names: list[str] = []
    while True:
        scanner.blank()
        names.append(scanner.name())
        scanner.blank()
        if not scanner.take(","):
            break
    scanner.end('","')
    return tuple(dict.fromkeys(names))


def _tree(scanner: Scanner, depth: int) -> Filter | Logic:
    if depth > MAX_DEPTH:
        raise scanner.error(f"at most {MAX_DEPTH} levels of logic")
    scanner.blank()
    match = scanner.match(_CONNECTIVE)
    if match is None:
        return _condition_or_mistaken_tree(scanner)
    operands = [_tree(scanner, depth + 1)]
    scanner.blank()
    while scanner.take(","):
        operands.append(_tree(scanner, depth + 1))
        scanner.blank()
    scanner.expect(")")
    scanner.blank()
    connective: OneOf["and", "or"] = "and" if match.group(2) == "and" else "or"
    return Logic(connective, bool(match.group(1)), tuple(operands))


def _condition_or_mistaken_tree(scanner: Scanner) -> Filter:
    """Read a condition; one that cannot be read may begin as a tree does."""
    start = scanner.pos
    try:
        return _condition(scanner)
    except RestError:
        scanner.pos = start
        negated = scanner.take("not.")
        if scanner.take("and") or scanner.take("or"):
            scanner.blank()
            raise scanner.error('"("') from None
        if negated:
            raise scanner.error(CONDITION_HINTS[-1]) from None
        raise


def _condition(scanner: Scanner) -> Filter:
    if scanner.at_end() or scanner.text[scanner.pos] in "(),.":
        raise scanner.error(*CONDITION_HINTS)
    field = scanner.field()
    if not scanner.take("."):
        before = ('"->>"', '"->"') if field.path else AFTER_NAME
        raise scanner.error(*before, "delimiter (.)")
    return Filter(field, _operation(scanner, in_tree=True))


def _operation(scanner: Scanner, *, in_tree: bool) -> Operation:
    negated = scanner.take("not.")
    start = scanner.pos
    match = scanner.match(_OPERATOR)
    if match is None:
        raise _no_operator(scanner, negated=negated)
    name, modifier = match.group(1), match.group(2)
    if name in QUANTIFIED_OPERATORS and modifier in (None, "any", "all"):
        value = _value_of(name, _value(scanner, in_tree=in_tree))
        if modifier is None:
            return Operation(name, value, negated)
        return Operation(name, value, negated, "any" if modifier == "any" else "all")
    if name in TEXT_SEARCH_FUNCTIONS:
        language = modifier.strip() if modifier is not None else None
        value = _value(scanner, in_tree=in_tree)
        return Operation(name, value, negated, language=language)
    if modifier is None:
        if name in PLAIN_OPERATORS or name == "isdistinct":
            return Operation(name, _value(scanner, in_tree=in_tree), negated)
        if name == "in":
            values = _list(scanner)
            empty = values == ("",)
            return Operation("in", "{}" if empty else array_literal(values), negated)
        if name == "is":
            return Operation("is", _is_value(scanner), negated)
    scanner.pos = start
    raise _no_operator(scanner, negated=negated)


def _no_operator(scanner: Scanner, *, negated: bool) -> RestError:
    known = scanner.match(_KNOWN_OPERATOR)
    if known is not None:
        # What is wrong stands behind the operator.
        if known.group() not in BARE_OPERATORS:
            scanner.take("(")
        return scanner.error(OPERATOR_HINT)
    expected = (OPERATOR_HINT,) if negated else ('"not"', OPERATOR_HINT)
    return scanner.error(*expected)


def _value(scanner: Scanner, *, in_tree: bool) -> str:
    if in_tree:
        array = scanner.match(_ARRAY)
        return array.group() if array is not None else _element(scanner)
    value = scanner.text[scanner.pos :]
    scanner.pos = len(scanner.text)
    return value


def _element(scanner: Scanner) -> str:
    start = scanner.pos
    quoted = scanner.quoted()
    if quoted is not None:
        if scanner.at_end() or scanner.peek(",") or scanner.peek(")"):
            return quoted
        scanner.pos = start
    match = scanner.match(_LIST_ELEMENT)
    return match.group() if match is not None else ""


def _list(scanner: Scanner) -> tuple[str, ...]:
    scanner.blank()
    scanner.expect("(")
    scanner.blank()
    values = [_element(scanner)]
    while scanner.take(","):
        values.append(_element(scanner))
    scanner.expect(")")
    scanner.blank()
    return tuple(values)


def _is_value(scanner: Scanner) -> str:
    rest = scanner.text[scanner.pos :].lower()
    # Longest first, because "not_null" must not be read as anything shorter.
    for word in sorted(IS_VALUES, key=len, reverse=True):
        if rest.startswith(word):
            scanner.pos += len(word)
            return word
    raise scanner.error(f"isVal: ({', '.join(IS_VALUES)})")
