"""The identities that matter for a schema: who is in the cast, with which claims.

Users live in *clans*: closed groups whose rows only ever refer to each other.  What one
clan may do to another's rows needs no declaration to be judged.  Users with a special
role, a special claim, a forged claim, no rows at all or no row in ``auth.users`` each
make a clan of one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.db.catalog import Catalog, Column, Name
from harness.policies.comparisons import Claim, Col
from harness.policies.mining import Mined
from harness.policies.ownership import Attribute, Ownership, Part, pairs_users
from harness.policies.power_scopes import ends_at_the_tenant

__all__ = ["AMBER", "BIRCH", "Cast", "Persona", "User", "build_cast"]

AMBER, BIRCH = "amber", "birch"
MAX_MATES = 5
MAX_SPECIALS = 12
# Powers that put nobody above others' rows: what one pays for, is, or went through.
# Any other special role (admin, editor, dispatcher) is taken for one that manages.
TIER_WORDS = re.compile(
    r"(premium|\bpro\b|paid|plus|gold|silver|bronze|vip|subscri|member|basic|free|trial|"
    r"verified|customer|author|writer|contributor|creator|seller|vendor|driver|student|"
    r"guest|user|active|enabled|patient|plan|tier|buyer|client|aal2|enterprise|starter|"
    r"not |level|confirmed|completed|approved|player|reader|viewer)",
    re.IGNORECASE,
)
PLAIN_VALUES = frozenset(
    [
        "user",
        "member",
        "basic",
        "free",
        "regular",
        "customer",
        "client",
        "standard",
        "default",
        "guest",
        "viewer",
        "student",
        "false",
        "none",
        "active",
        "pending",
        "normal",
        "personal",
        "anon",
        "authenticated",
    ]
)
SEPARATELY_MADE_CLAIMS = frozenset({("role",), ("is_anonymous",), ("email",), ("sub",)})

Kind = Literal["anon", "plain", "special", "nameless", "service"]
AttributeKey = tuple[Name, str]


@dataclass(frozen=True, kw_only=True)
class User:
    """A row of ``auth.users`` (unless ``ghost``) and what the world gives it.

    ``attributes`` holds values of :class:`~harness.policies.ownership.Attribute`;
    ``power`` is the role or claim value that makes the user special ('' for plain);
    ``scoped`` says that it ends at the border of the user's tenant.
    """

    name: str
    id: str
    clan: str
    anonymous: bool = False
    ghost: bool = False
    rows: bool = True
    lead: bool = False
    power: str = ""
    scoped: bool = False
    attributes: Mapping[AttributeKey, str] = field(default_factory=dict)
    app_metadata: Mapping[str, Any] = field(default_factory=dict)
    user_metadata: Mapping[str, Any] = field(default_factory=dict)
    claims: Mapping[str, Any] = field(default_factory=dict)
    membership: int = 0

    @property
    def email(self) -> str:
        """The user's e-mail address ('' for anonymous sign-ins)."""
        return "" if self.anonymous else f"{self.name.replace(' ', '.')}@example.com"


@dataclass(frozen=True, kw_only=True)
class Persona:
    """An identity that statements run as: a database role and the token's claims."""

    name: str
    role: str
    kind: Kind
    claims: Mapping[str, Any]
    user: User | None = None

    @property
    def clan(self) -> str:
        """The clan of the persona ('' for none)."""
        return self.user.clan if self.user else ""

    @property
    def sub(self) -> str:
        """The caller's id ('' for none)."""
        return str(self.claims.get("sub", ""))

    @property
    def claims_json(self) -> str:
        """The claims as ``request.jwt.claims`` holds them."""
        return json.dumps(self.claims, separators=(",", ":"), sort_keys=True)

    @property
    def manages(self) -> bool:
        """Whether its special role, by its name, is there to manage others' rows."""
        power = self.user.power if self.user else ""
        managing = bool(power) and not TIER_WORDS.search(power)
        scoped = self.user is not None and self.user.scoped
        return self.kind == "service" or (managing and not scoped)


@dataclass(frozen=True)
class Cast:
    """Everybody in a world, and the personas that act."""

    users: tuple[User, ...]
    personas: tuple[Persona, ...]

    def clan(self, name: str) -> tuple[User, ...]:
        """Return the users of a clan."""
        return tuple(user for user in self.users if user.clan == name)

    @property
    def clans(self) -> tuple[str, ...]:
        """Clans that own rows, in order."""
        return tuple(dict.fromkeys(user.clan for user in self.users if user.rows))

    def persona(self, name: str) -> Persona:
        """Return the persona called ``name``; raises KeyError."""
        for persona in self.personas:
            if persona.name == name:
                return persona
        raise KeyError(name)

    def by_id(self, user_id: str) -> User | None:
        """Return the user with this id."""
        return next((user for user in self.users if user.id == user_id), None)


def build_cast(catalog: Catalog, mined: Mined, ownership: Ownership) -> Cast:
    """Choose the users and personas that reach every branch of the schema."""
    base = _base_attributes(catalog, ownership)
    users = [*_clans(catalog, mined, ownership, base)]
    users += _specials(catalog, mined, ownership, base)
    users += [
        User(
            name="carol",
            id=_user_id("ca401"),
            clan="carol",
            rows=False,
            attributes=base,
        ),
        User(name="gus", id=_user_id("6"), clan="gus", anonymous=True, rows=False),
        User(name="nora", id=_user_id("a04a"), clan="nora", ghost=True, rows=False),
    ]
    return Cast(tuple(users), tuple(_personas(users, mined)))


def _user_id(digits: str) -> str:
    return f"{digits.ljust(8, '0')}-0000-4000-8000-000000000000"


def _base_attributes(
    catalog: Catalog, ownership: Ownership
) -> Mapping[AttributeKey, str]:
    """Return what an ordinary user has: the default, or a value that says so."""
    chosen: dict[AttributeKey, str] = {}
    for attribute in ownership.attributes:
        value = _ordinary_value(catalog, attribute)
        if value is not None:
            chosen[attribute.table, attribute.column] = value
    return chosen


def _ordinary_value(catalog: Catalog, attribute: Attribute) -> str | None:
    relation = catalog.relations[attribute.table]
    column = relation.column(attribute.column)
    if attribute.is_row:
        return None
    keyed = any(
        attribute.column in key.columns and len(key.columns) > 1
        for key in relation.unique_keys
    )
    if keyed or attribute.column in relation.primary_key:
        return None
    default = column.default.split("::")[0].strip("'")
    if default and "(" not in default:
        return default
    plain = [v for v in attribute.values if v.lower() in PLAIN_VALUES]
    if plain:
        return plain[0]
    return attribute.values[-1] if column.not_null else None


def _clans(
    catalog: Catalog,
    mined: Mined,
    ownership: Ownership,
    base: Mapping[AttributeKey, str],
) -> Iterable[User]:
    mates = max(2, min(MAX_MATES, membership_variants(catalog, mined, ownership)))
    if any(pairs_users(table, mined) for table in ownership.tables.values()):
        # So that who follows somebody need not be the one who blocks them.
        mates = max(mates, 3)
    names = ("alice", "adam", "amy", "arno", "ada", "abel")
    for index in range(mates):
        yield User(
            name=names[index],
            id=_user_id(f"a{index}"),
            clan=AMBER,
            lead=index == 0,
            attributes=base,
            membership=index,
        )
    yield User(name="bob", id=_user_id("b0"), clan=BIRCH, lead=True, attributes=base)
    yield User(name="bea", id=_user_id("b1"), clan=BIRCH, attributes=base, membership=1)


def membership_variants(catalog: Catalog, mined: Mined, ownership: Ownership) -> int:
    """Return how many kinds of members the largest membership table knows."""
    largest = 2
    for table in ownership.tables.values():
        if table.membership:
            kinds = 1
            for column in catalog.relations[table.table].columns:
                kinds *= _kinds(column, Col(table.table, column.name), mined)
            largest = max(largest, kinds)
    return largest


def _kinds(column: Column, col: Col, mined: Mined) -> int:
    if column.labels and not column.is_array:
        return len(column.labels)
    found = len(mined.constants.get(col, ())) + (col in mined.null_tests)
    if column.base_type == "boolean":
        found = 1
    return found + 1 if found or col in mined.clock_tests else 1


def _specials(
    catalog: Catalog,
    mined: Mined,
    ownership: Ownership,
    base: Mapping[AttributeKey, str],
) -> list[User]:
    found: list[User] = []
    for attribute in ownership.attributes:
        key = (attribute.table, attribute.column)
        scoped = ends_at_the_tenant(Col(*key), catalog, mined, ownership)
        for value in attribute.values:
            if value != base.get(key):
                named = attribute.table.name if attribute.is_row else attribute.column
                power = named if attribute.is_row else _power(named, value)
                found.append(
                    _special(
                        len(found),
                        power,
                        scoped=scoped,
                        attributes={**base, key: value},
                    )
                )
    for path, values in sorted(mined.claim_constants.items()):
        if path in SEPARATELY_MADE_CLAIMS:
            continue
        scoped = ends_at_the_tenant(Claim(path), catalog, mined, ownership)
        for value in values:
            power = _power(path[-1], value) if path else value
            claims = _claim_fields(path, value)
            special = _special(
                len(found), power, scoped=scoped, attributes=base, **claims
            )
            found.append(special)
    return found[:MAX_SPECIALS]


def _power(name: str, value: str) -> str:
    if value in ("true", "false"):
        return name if value == "true" else f"not {name}"
    return value


def _special(index: int, power: str, **fields: Any) -> User:
    forged = bool(fields.get("user_metadata"))
    name = f"{power} {'forger' if forged else 'user'}".replace("_", " ")
    return User(
        name=f"{name} {index}",
        id=_user_id(f"5{index:x}"),
        clan=f"special {index}",
        # What a user writes into user_metadata gives no power that is meant.
        power="" if forged else power,
        **fields,
    )


def _claim_fields(path: tuple[str, ...], value: str) -> dict[str, Any]:
    if path[:1] == ("app_metadata",):
        return {"app_metadata": _nested(path[1:], value)}
    if path[:1] == ("user_metadata",):
        return {"user_metadata": _nested(path[1:], value)}
    return {"claims": _nested(path, value)}


def _nested(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    if not path:
        return {}
    parsed: Any = {"true": True, "false": False}.get(value, value)
    for step in reversed(path[1:]):
        parsed = {step: parsed}
    return {path[0]: parsed}


def _personas(users: Iterable[User], mined: Mined) -> Iterable[Persona]:
    yield Persona(name="anon", role="anon", kind="anon", claims={"role": "anon"})
    for user in users:
        yield persona_of(user)
    yield Persona(
        name="nameless",
        role="authenticated",
        kind="nameless",
        claims={"role": "authenticated"},
    )
    yield Persona(
        name="service_role",
        role="service_role",
        kind="service",
        claims={"role": "service_role"},
    )


def persona_of(user: User) -> Persona:
    """Return the persona that ``user``'s token makes."""
    claims: dict[str, Any] = {
        "sub": user.id,
        "role": "authenticated",
        "aud": "authenticated",
        "email": user.email,
        "aal": "aal1",
        "is_anonymous": user.anonymous,
        "session_id": user.id.replace("-4000-", "-4001-"),
        "app_metadata": {"provider": "email", **user.app_metadata},
        "user_metadata": dict(user.user_metadata),
        **user.claims,
    }
    kind: Kind = "special" if user.power else "plain"
    return Persona(
        name=user.name, role="authenticated", kind=kind, claims=claims, user=user
    )


def parts_of(ownership: Ownership, table: Name) -> Mapping[str, Part]:
    """Return the part of each user column of ``table``."""
    return {user.column: user.part for user in ownership.of(table).users}
