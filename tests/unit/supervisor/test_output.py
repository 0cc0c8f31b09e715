"""Standard error that may not be read by anybody."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.output import Output


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe: (read, write)."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def read(descriptor: int) -> bytes:
    """Everything in a pipe."""
    os.set_blocking(descriptor, False)
    found = b""
    try:
        while data := os.read(descriptor, 65536):
            found += data
    except BlockingIOError:
        pass
    return found


def test_a_line_is_written_at_once_and_the_descriptor_stays_blocking(pipe: tuple[int, int]) -> None:
    output = Output(pipe[1])
    output.write(b"one\n")
    output.write(b"two\n")
    assert read(pipe[0]) == b"one\ntwo\n"
    assert os.get_blocking(pipe[1])
    assert not output.waiting
    output.close()


def test_a_pipe_that_nobody_reads_blocks_nothing_and_costs_lines_that_are_counted(pipe: tuple[int, int]) -> None:
    output = Output(pipe[1], limit=10_000)
    line = b"x" * 999 + b"\n"
    for _ in range(200):
        output.write(line)
    dropped = output.dropped
    assert dropped > 100
    received = b""
    for _ in range(10):
        received += read(pipe[0])
        output.flush()
    assert received.endswith(b"supervisor: %d log lines were dropped: standard error was not read\n" % dropped)
    assert received.count(line) == 200 - dropped
    assert (output.waiting, output.dropped) == (False, 0)
    output.close()


def test_a_reader_that_is_gone_is_no_error() -> None:
    receiver, sender = os.pipe()
    output = Output(sender)
    os.close(receiver)
    output.write(b"nobody\n")
    assert not output.waiting
    output.close()
    os.close(sender)


def test_a_regular_file_is_appended_to_where_it_stands(tmp_path: Path) -> None:
    """Opening it a second time would overwrite what the parent has written."""
    with (tmp_path / "log").open("wb", buffering=0) as file:
        file.write(b"before\n")
        output = Output(file.fileno())
        output.write(b"line\n")
        file.write(b"after\n")
        output.close()
    assert (tmp_path / "log").read_bytes() == b"before\nline\nafter\n"
