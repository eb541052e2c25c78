"""Names and defaults that make a column secret."""

from __future__ import annotations

import pytest

from harness.policies.private_tables import PRIVATE_TABLE, SECRET_COLUMN, is_drawn
from tests.unit.policies.catalogs import column


@pytest.mark.parametrize("name", ["token", "key_hash", "invite_code", "push_token"])
def test_column_is_secret_by_its_name(name: str) -> None:
    assert SECRET_COLUMN.search(name)


@pytest.mark.parametrize("name", ["path_tokens_of", "title", "code", "secretary"])
def test_column_is_not_secret_by_its_name(name: str) -> None:
    assert not SECRET_COLUMN.search(name)


@pytest.mark.parametrize(
    ("name", "default", "drawn"),
    [
        ("code", "md5((random())::text)", True),
        ("slug", "md5((random())::text)", False),
        ("code", "'A1'::text", False),
    ],
)
def test_text_drawn_at_random_is_secret_unless_meant_to_be_shown(
    name: str, default: str, drawn: bool
) -> None:
    assert is_drawn(column(name, default=default)) is drawn


@pytest.mark.parametrize("name", ["wallets", "order_invoices", "private_messages"])
def test_table_is_private_by_its_name(name: str) -> None:
    assert PRIVATE_TABLE.search(name)


@pytest.mark.parametrize("name", ["articles", "public_events", "reordering"])
def test_table_is_not_private_by_its_name(name: str) -> None:
    assert not PRIVATE_TABLE.search(name)
