"""XML of the S3 protocol: answers out, the few request bodies in."""

from __future__ import annotations

import xml.parsers.expat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from xml.sax.saxutils import escape

from harness.errors import RemoteProtocolError

__all__ = [
    "NAMESPACE",
    "DeleteRequest",
    "parse_complete",
    "parse_delete",
    "parse_etag",
    "parse_message",
    "parse_upload_id",
    "render",
]

NAMESPACE: Final = "http://s3.amazonaws.com/doc/2006-03-01/"
DECLARATION: Final = '<?xml version="1.0" encoding="UTF-8"?>'
# XML 1.0 cannot hold these, escaped or not.
CONTROLS: Final = {code: None for code in range(32) if code not in (9, 10, 13)}

Value = Any


def render(root: str, content: Mapping[str, Value], *, namespace: bool = True) -> bytes:
    """Return a document: a list repeats its element, None leaves it out.

    The name '' stands for the element's own text.
    """
    attribute = f' xmlns="{NAMESPACE}"' if namespace else ""
    body = "".join(_element(name, value) for name, value in content.items())
    return f"{DECLARATION}<{root}{attribute}>{body}</{root}>".encode()


def _element(name: str, value: Value) -> str:
    if value is None:
        return ""
    if not name:
        return escape(str(value))
    if isinstance(value, Mapping):
        inner = "".join(_element(n, v) for n, v in value.items())
        return f"<{name}>{inner}</{name}>"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "".join(_element(name, item) for item in value)
    if isinstance(value, bool):
        return f"<{name}>{'true' if value else 'false'}</{name}>"
    return f"<{name}>{escape(str(value).translate(CONTROLS))}</{name}>"


@dataclass(frozen=True, slots=True)
class DeleteRequest:
    """The keys of a DeleteObjects call; ``quiet`` leaves successes out."""

    keys: tuple[str, ...]
    quiet: bool


def parse_delete(body: bytes) -> DeleteRequest:
    """Read the body of DeleteObjects."""
    root, leaves = _parse(body)
    if root != "Delete":
        raise RemoteProtocolError("not a Delete document")
    keys = tuple(text for path, text in leaves if path == "Delete/Object/Key")
    quiet = any(p == "Delete/Quiet" and t == "true" for p, t in leaves)
    return DeleteRequest(keys, quiet)


def parse_complete(body: bytes) -> list[tuple[int, str]]:
    """Read (part number, entity tag) pairs of CompleteMultipartUpload."""
    if not body.strip():
        return []
    _, leaves = _parse(body)
    parts: list[tuple[int, str]] = []
    number: int | None = None
    etag = ""
    for path, text in leaves:
        _, _, leaf = path.rpartition("/")
        if leaf == "PartNumber":
            number = _part_number(text)
        elif leaf == "ETag":
            etag = text.strip()
        elif leaf == "Part" and number is not None:
            parts.append((number, etag))
            number, etag = None, ""
    return parts


def parse_upload_id(body: bytes) -> str:
    """Read the answer of CreateMultipartUpload."""
    return _text_of(body, "UploadId")


def parse_etag(body: bytes) -> str:
    """Read the answer of CompleteMultipartUpload, which may be a late refusal."""
    return _text_of(body, "ETag")


def parse_message(text: str) -> str:
    """Return the message of an error document; '' for anything else."""
    try:
        return _text_of(text.encode(), "Message")
    except RemoteProtocolError:
        return ""


def _text_of(body: bytes, element: str) -> str:
    _, leaves = _parse(body)
    for path, text in leaves:
        if path.count("/") == 1 and path.endswith(f"/{element}"):
            return text
    raise RemoteProtocolError(f"no {element} in the answer")


def _part_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        raise RemoteProtocolError("a part number is not a number")
    return int(text)


def _parse(body: bytes) -> tuple[str, list[tuple[str, str]]]:
    """Return the root's name and (path, text) of every element, in closing order.

    Document types are refused: nothing here needs entities.
    """
    parser = xml.parsers.expat.ParserCreate()
    path: list[str] = []
    texts: list[str] = []
    roots: list[str] = []
    leaves: list[tuple[str, str]] = []

    def start(name: str, _: dict[str, str]) -> None:
        local = name.rpartition(":")[2]
        path.append(local)
        texts.append("")
        if len(path) == 1:
            roots.append(local)

    def data(text: str) -> None:
        if texts:
            texts[-1] += text

    def end(_: str) -> None:
        leaves.append(("/".join(path), texts.pop()))
        path.pop()

    def refuse(*_: object) -> None:
        raise RemoteProtocolError("a document type is not allowed")

    parser.StartElementHandler = start
    parser.CharacterDataHandler = data
    parser.EndElementHandler = end
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(body, True)
    except xml.parsers.expat.ExpatError as exc:
        raise RemoteProtocolError("not well-formed XML") from exc
    return roots[0], leaves
