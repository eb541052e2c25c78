"""Bodies: JSON, CSV and forms, and which keys they bring."""

from __future__ import annotations

import orjson
import pytest

from harness.protocols.postgrest_errors import RestError
from harness.protocols.postgrest_media import CSV, FORM, JSON, OCTETS, TEXT
from harness.protocols.postgrest_payload import call_payload, write_payload


def test_write_payload_of_an_object() -> None:
    payload = write_payload(b'{"b": 1, "a": null}', JSON, None)
    assert payload.keys == ("b", "a")
    assert payload.is_object
    assert payload.text == b'{"b": 1, "a": null}'


def test_write_payload_of_objects_with_the_same_keys() -> None:
    payload = write_payload(b'[{"a": 1, "b": 2}, {"b": 3, "a": 4}]', JSON, None)
    assert payload.keys == ("a", "b")
    assert not payload.is_object


@pytest.mark.parametrize("body", [b"[]", b"5", b'"x"', b"null", b"true"])
def test_write_payload_of_no_object_is_an_empty_array(body: bytes) -> None:
    payload = write_payload(body, JSON, None)
    assert (payload.text, payload.keys) == (b"[]", ())


def test_write_payload_with_columns_takes_those() -> None:
    payload = write_payload(b'[{"a": 1}, {"b": 2}]', JSON, ("a", "b"))
    assert payload.keys == ("a", "b")


@pytest.mark.parametrize(
    "body", [b'[{"a":1},{"b":1}]', b'[{"a":1},{"a":1,"b":2}]', b'[{"a":1},5]', b"[5]"]
)
def test_write_payload_of_differing_objects_is_refused(body: bytes) -> None:
    with pytest.raises(RestError, match="All object keys must match"):
        write_payload(body, JSON, None)


@pytest.mark.parametrize("body", [b"", b"{", b"{'a':1}", b"\xff", b"NaN", b"[" * 5000])
def test_write_payload_of_broken_json_is_refused(body: bytes) -> None:
    with pytest.raises(RestError) as caught:
        write_payload(body, JSON, None)
    assert (caught.value.status, caught.value.code) == (400, "PGRST102")


def test_write_payload_of_csv_reads_quotes_and_nulls() -> None:
    body = b'a,b\r\n1,"x,""y"""\r\nNULL,\r\n'
    payload = write_payload(body, CSV, None)
    assert payload.keys == ("a", "b")
    assert orjson.loads(payload.text) == [
        {"a": "1", "b": 'x,"y"'},
        {"a": None, "b": ""},
    ]


@pytest.mark.parametrize("body", [b"", b"a,b\n1\n", b'a\n"1', b"a\n\xff\n", b"\n\n"])
def test_write_payload_of_broken_csv_is_refused(body: bytes) -> None:
    with pytest.raises(RestError) as caught:
        write_payload(body, CSV, None)
    assert caught.value.code == "PGRST102"


def test_write_payload_of_a_form_is_an_object() -> None:
    payload = write_payload(b"a=1&b=x+y%26", FORM, None)
    assert orjson.loads(payload.text) == {"a": "1", "b": "x y&"}
    assert payload.is_object


def test_write_payload_of_another_type_is_refused() -> None:
    with pytest.raises(RestError, match="Content-Type not acceptable: text/plain"):
        write_payload(b"x", TEXT, None)


def test_call_payload_of_nothing_is_no_argument() -> None:
    payload = call_payload(b"", JSON, None)
    assert (payload.keys, payload.is_object) == ((), True)


def test_call_payload_of_raw_types_is_the_body() -> None:
    assert call_payload(b"\x00\xff", OCTETS, None).text == b"\x00\xff"


def test_call_payload_of_a_form_keeps_repetitions() -> None:
    payload = call_payload(b"a=1&a=2", FORM, None)
    assert payload.value == [("a", "1"), ("a", "2")]
    assert payload.keys == ("a",)
