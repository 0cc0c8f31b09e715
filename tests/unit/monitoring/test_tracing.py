"""traceparent as in https://www.w3.org/TR/trace-context-2/."""

import pytest

from monitoring.tracing import TraceContext, TraceparentInvalid

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADER = f"00-{TRACE}-{SPAN}-01"


def counting(size: int) -> bytes:
    return bytes(range(1, size + 1))


def test_a_header_is_read_and_written_again() -> None:
    context = TraceContext.parse(HEADER)
    assert (context.trace_id, context.span_id, context.sampled) == (TRACE, SPAN, True)
    assert context.format() == HEADER


@pytest.mark.parametrize(
    "header",
    [
        "",
        HEADER.upper(),
        HEADER[:-1],
        HEADER + "0",
        HEADER + "-",
        HEADER + "-00",
        " " + HEADER,
        HEADER + "\n",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-0g",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"0٣-{TRACE}-{SPAN}-01",
        f"01-{TRACE}-{SPAN}-01more",
        f"01-{TRACE}-{SPAN}-01-" + "x" * 600,
    ],
)
def test_anything_else_is_refused(header: str) -> None:
    with pytest.raises(TraceparentInvalid):
        TraceContext.parse(header)


@pytest.mark.parametrize("rest", ["", "-", "-what the future brings"])
def test_of_a_higher_version_the_known_fields_count(rest: str) -> None:
    assert TraceContext.parse(f"cc-{TRACE}-{SPAN}-01{rest}").format() == HEADER


def test_unknown_flags_are_not_passed_on() -> None:
    context = TraceContext.parse(f"00-{TRACE}-{SPAN}-fe")
    assert (context.sampled, context.format()[-2:]) == (False, "02")


def test_a_child_is_a_new_span_of_the_same_trace() -> None:
    child = TraceContext.parse(HEADER).child(counting)
    assert child.format() == f"00-{TRACE}-0102030405060708-01"


@pytest.mark.parametrize(("sampled", "flags"), [(True, "03"), (False, "02")])
def test_a_new_trace_says_that_its_id_is_random(sampled: bool, flags: str) -> None:
    context = TraceContext.start(counting, sampled=sampled)
    assert context.format() == f"00-0102030405060708090a0b0c0d0e0f10-0102030405060708-{flags}"


@pytest.mark.parametrize("header", [None, "", "nonsense", f"00-{'0' * 32}-{SPAN}-01"])
def test_a_missing_or_invalid_header_starts_a_trace(header: str | None) -> None:
    assert TraceContext.continued(header, counting).trace_id == "0102030405060708090a0b0c0d0e0f10"


def test_a_valid_header_is_continued() -> None:
    assert TraceContext.continued(f" {HEADER}\t", counting) == TraceContext(TRACE, "0102030405060708", 1)


def test_ids_of_zeros_are_drawn_again() -> None:
    draws = iter([bytes(16), counting(16), bytes(8), counting(8)])
    context = TraceContext.start(lambda _size: next(draws))
    assert context.trace_id.startswith("0102")


@pytest.mark.parametrize(
    ("trace", "span", "flags"), [("x", SPAN, 1), (TRACE, "x", 1), (TRACE, SPAN, 256), (TRACE, SPAN, -1)]
)
def test_an_impossible_context_is_not_made(trace: str, span: str, flags: int) -> None:
    with pytest.raises(TraceparentInvalid):
        TraceContext(trace, span, flags)
