"""Mistakes in a query string, told in PostgREST's words and at its column."""

from __future__ import annotations

import pytest

from harness.protocols.postgrest import parse_query
from harness.protocols.postgrest_errors import RestError

NAME = 'letter, digit, "-", "->>", "->"'
ITEM = f'{NAME}, "::", ".", ")", "," or end of input'
SUMS = '"sum", "avg", "count", "max" or "min"'
DIRECTIONS = '"asc", "desc", "nullsfirst" or "nullslast"'
TERM = 'delimiter (.), "," or end of input'
OPERATOR = "operator (eq, gt, ...)"


@pytest.mark.parametrize(
    ("query", "column", "details"),
    [
        ("order=id.ac", 4, f'unexpected "c" expecting {DIRECTIONS}'),
        ("order=id.smth34", 4, f'unexpected "s" expecting {DIRECTIONS}'),
        ("order=id.nulsfist", 4, f'unexpected "n" expecting {DIRECTIONS}'),
        ("order=id.descc", 8, f"unexpected 'c' expecting {TERM}"),
        (
            "order=id.asc.nlsfst",
            8,
            'unexpected "l" expecting "nullsfirst" or "nullslast"',
        ),
        ("order=id.nullslasttt", 13, "unexpected 't' expecting \",\" or end of input"),
        (
            "order=id.asc.nullslasttt",
            17,
            "unexpected 't' expecting \",\" or end of input",
        ),
        ("order=clients(name,id)", 8, f"unexpected '(' expecting {NAME}, {TERM}"),
        ("select=id,clients(name[])", 16, f"unexpected '[' expecting {ITEM}"),
        ("select=name!hint", 5, f"unexpected '!' expecting {ITEM}"),
        ("select=*!hint", 2, 'unexpected \'!\' expecting ")", "," or end of input'),
        ("select=count(*)", 6, f"unexpected '(' expecting {ITEM}"),
        ("select=name::", 7, "unexpected end of input expecting letter or digit"),
        ("select=prt.*,u.email", 5, f'unexpected "*" expecting {SUMS}'),
        (
            "select=data->>-78xy",
            11,
            'unexpected \'x\' expecting digit, "->", "::", ".", "," or end of input',
        ),
        ("select=data->>--34", 9, 'unexpected "-" expecting digit'),
        ("select=data->>-xy-4", 9, 'unexpected "x" expecting digit'),
        ("id=val", 1, f'unexpected "v" expecting "not" or {OPERATOR}'),
        ("id=eq", 3, f"unexpected end of input expecting {OPERATOR}"),
        ("id=fts().value", 5, f'unexpected ")" expecting {OPERATOR}'),
        ("id=eq().value", 4, f'unexpected ")" expecting {OPERATOR}'),
        ("id=is().value", 3, f'unexpected "(" expecting {OPERATOR}'),
        ("id=in().value", 3, f'unexpected "(" expecting {OPERATOR}'),
        ("or=(id.in.1,2,id.eq.3)", 10, 'unexpected "1" expecting "("'),
        ("or=)(", 3, 'unexpected ")" expecting "("'),
        ("and=(or=(name.ilike.x))", 7, 'unexpected "=" expecting "("'),
        (
            "and=(ord(id.eq.1,id.eq.1),id.eq.2)",
            7,
            'unexpected "d" expecting "("',
        ),
        (
            "or=(id.eq.1,not.xor(id.eq.2,id.eq.3))",
            16,
            'unexpected "x" expecting logic operator (and, or)',
        ),
        (
            "or=(title.ilike.%a,b%,text.ilike.%a,b%)",
            20,
            f'unexpected "%" expecting {NAME} or delimiter (.)',
        ),
    ],
)
def test_mistake_is_told_as_postgrest_tells_it(
    query: str, column: int, details: str
) -> None:
    with pytest.raises(RestError) as caught:
        parse_query(query)
    assert caught.value.code == "PGRST100"
    assert caught.value.message.endswith(f'" (line 1, column {column})')
    assert caught.value.details == details
