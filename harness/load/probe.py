"""The measured message: which stream, which number, when it was meant to be sent.

The three numbers have a fixed width, so that a subscriber reads them by position,
without parsing the JSON around them::

    {...,"probe":"<stream 6 digits>:<sequence 10 digits>:<nanoseconds 19 digits>"...}

It may stand anywhere in a message, as a broadcast's field or a row's column, with or
without the space that PostgreSQL writes after a colon.
"""

from __future__ import annotations

from harness.errors import LocalProtocolError

__all__ = ["Probe", "broadcast_payload", "find_mark", "probe_text", "read_probe"]

Probe = tuple[int, int, int]  # stream, sequence, intended nanoseconds (monotonic)

MARK = b'"probe":'
OPENING_LENGTH = len(MARK) + 1  # with the quotation mark
STREAM_DIGITS = 6
SEQUENCE_DIGITS = 10
TIME_DIGITS = 19
SEQUENCE_AT = STREAM_DIGITS + 1
SEQUENCE_END = SEQUENCE_AT + SEQUENCE_DIGITS
TIME_AT = SEQUENCE_END + 1
LENGTH = TIME_AT + TIME_DIGITS


def probe_text(stream: int, sequence: int, intended_ns: int) -> str:
    """Return the text of a probe; raises :class:`LocalProtocolError` when too wide."""
    text = f"{stream:06}:{sequence:010}:{intended_ns:019}"
    if len(text) != LENGTH:
        raise LocalProtocolError(f"a probe number has too many digits: {text}")
    return text


def broadcast_payload(
    stream: int, sequence: int, intended_ns: int, size_bytes: int
) -> bytes:
    """Return a JSON object of about ``size_bytes`` that carries a probe."""
    text = probe_text(stream, sequence, intended_ns)
    head = f'{{"probe":"{text}","pad":"'
    return f'{head}{"x" * (size_bytes - len(head) - 2)}"}}'.encode()


def read_probe(message: bytes, expected_at: int = 0) -> Probe | None:
    """Return the probe in ``message``, or None when it carries none.

    ``expected_at`` is where an earlier message of the same kind had its mark, which
    saves the search (see :func:`find_mark`); it may be wrong.
    """
    at = expected_at
    if not message.startswith(MARK, at):
        at = message.find(MARK)
        if at < 0:
            return None
    start = at + OPENING_LENGTH
    if message[start - 1 : start] != b'"':
        start += 1  # PostgreSQL writes a space after the colon
    try:
        return (
            int(message[start : start + STREAM_DIGITS]),
            int(message[start + SEQUENCE_AT : start + SEQUENCE_END]),
            int(message[start + TIME_AT : start + LENGTH]),
        )
    except ValueError:
        return None


def find_mark(message: bytes) -> int:
    """Return where the mark of a probe begins in ``message``, 0 if nowhere."""
    return max(0, message.find(MARK))
