"""What a worker writes, cut into lines and kept."""

import json
import os

from hypothesis import given
from hypothesis import strategies as st

from supervisor.capture import LINE_BYTES, TAIL_BYTES, Capture, as_log_line


@given(st.lists(st.binary(max_size=200), max_size=30))
def test_no_word_is_lost_however_the_writes_are_cut(pieces: list[bytes]) -> None:
    written = b"".join(pieces).replace(b"\r", b"")
    capture = Capture()
    lines = [line for piece in pieces for line in capture.feed(piece.replace(b"\r", b""))]
    assert [*lines, *capture.close()] == [line for line in written.split(b"\n") if line]


def test_a_line_without_end_is_cut_and_memory_stays_bounded() -> None:
    capture = Capture()
    lines = [line for _ in range(100) for line in capture.feed(b"x" * 5000)]
    assert {len(line) for line in lines} == {LINE_BYTES}
    assert sum(map(len, lines)) + len(capture.close()[0]) == 500_000


def test_the_tail_is_the_end_and_begins_with_a_whole_line() -> None:
    capture = Capture()
    for number in range(10_000):
        capture.feed(f"line {number}\n".encode())
    assert capture.tail.endswith("line 9998\nline 9999")
    assert capture.tail.startswith("line ")
    assert len(capture.tail) <= TAIL_BYTES


def test_a_tail_of_foreign_bytes_is_text_all_the_same() -> None:
    capture = Capture()
    capture.feed(os.urandom(3) + b"\xff\xfe")
    assert isinstance(capture.tail, str)


def test_in_json_a_structured_line_passes_and_any_other_is_wrapped() -> None:
    assert as_log_line("ca", b'{"event":"x"}', "json") == b'{"event":"x"}\n'
    wrapped = json.loads(as_log_line("ca", b'Traceback "most\xff recent', "json"))
    assert wrapped == {"service": "ca", "level": "error", "event": 'Traceback "most\ufffd recent'}


def test_on_a_console_a_line_tells_whose_it_is() -> None:
    assert as_log_line("ca", b"hello", "console") == b"ca | hello\n"
