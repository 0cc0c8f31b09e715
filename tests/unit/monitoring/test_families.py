"""Declarations: what is accepted, what is refused and why, and the table as text."""

from collections.abc import Callable

import msgspec
import pytest

from monitoring.families import (
    DeclarationError,
    Family,
    Table,
    TableDamaged,
    counter,
    gauge,
    histogram,
    operation,
)
from monitoring.histogram import CELLS
from monitoring.metrics import WORKER_FAMILIES

COLOURS = {"colour": ("red", "blue")}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("ca_requests_total", "starts with 'trustchain_'"),
        ("trustchain_Requests_total", "snake_case"),
        ("trustchain_ca__requests_total", "snake_case"),
        ("trustchain_ca:requests_total", "snake_case"),
        ("trustchain_", "snake_case"),
        ("trustchain_ca_requests", "ends in '_total'"),
        ("trustchain_ca_count_total", "reserved"),
        ("trustchain_ca_wait_ms_total", "'ms'"),
        ("trustchain_ca_counter_total", "'counter'"),
        ("trustchain_ca_wait_seconds_total", "declare unit='seconds'"),
        ("trustchain_" + "x" * 200 + "_total", "snake_case"),
    ],
)
def test_a_counter_with_a_bad_name_is_refused(name: str, reason: str) -> None:
    with pytest.raises(DeclarationError, match=reason):
        counter(name, "Help.")


def test_units_are_part_of_the_name() -> None:
    assert counter("trustchain_ca_busy_seconds_total", "Help.", unit="seconds").unit == "seconds"
    assert gauge("trustchain_ca_used_bytes", "Help.", unit="bytes").unit == "bytes"
    assert gauge("trustchain_ca_used_ratio", "Help.", unit="ratio").unit == "ratio"


@pytest.mark.parametrize(
    ("declare", "name", "unit"),
    [
        (counter, "trustchain_ca_busy_total", "seconds"),
        (gauge, "trustchain_ca_used", "bytes"),
        (gauge, "trustchain_ca_used_bytes", ""),
        (histogram, "trustchain_ca_wait", "seconds"),
        (histogram, "trustchain_ca_wait_ratio", "ratio"),
        (gauge, "trustchain_ca_wait_minutes", "minutes"),
    ],
)
def test_a_unit_that_the_name_does_not_tell_is_refused(declare: Callable[..., Family], name: str, unit: str) -> None:
    with pytest.raises(DeclarationError, match="unit"):
        declare(name, "Help.", unit=unit)


@pytest.mark.parametrize("text", ["", " ", "two\nlines", "x" * 201])
def test_help_is_one_line(text: str) -> None:
    with pytest.raises(DeclarationError, match="help must be one line"):
        gauge("trustchain_ca_depth", text)


@pytest.mark.parametrize("label", ["le", "quantile", "job", "Colour", "_colour", "co lour", "", "x" * 65])
def test_a_label_that_is_reserved_or_malformed_is_refused(label: str) -> None:
    with pytest.raises(DeclarationError, match="not a usable label name"):
        gauge("trustchain_ca_depth", "Help.", labels={label: ("x",)})


@pytest.mark.parametrize(
    "values", [(), ("red", "red"), ("",), ("two\nlines",), ("x" * 65,), tuple(str(number) for number in range(65))]
)
def test_label_values_are_few_different_and_printable(values: tuple[str, ...]) -> None:
    with pytest.raises(DeclarationError):
        gauge("trustchain_ca_depth", "Help.", labels={"colour": values})


def test_the_service_label_of_shared_families_cannot_be_taken() -> None:
    gauge("trustchain_ca_depth", "Help.", labels={"service": ("x",)})
    with pytest.raises(DeclarationError, match="'service'"):
        gauge("trustchain_ca_depth", "Help.", labels={"service": ("x",)}, per_service=True)


def test_only_gauges_have_a_merging_rule() -> None:
    assert gauge("trustchain_ca_depth", "Help.", merge="max").merge == "max"
    with pytest.raises(DeclarationError, match="only a gauge"):
        Family(name="trustchain_ca_x_total", kind="counter", help="Help.", merge="max")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (gauge("trustchain_ca_depth", "Help."), gauge("trustchain_ca_depth", "Other.")),
        (counter("trustchain_ca_depth_total", "Help."), gauge("trustchain_ca_depth", "Help.")),
    ],
)
def test_two_families_never_share_an_exported_name(first: Family, second: Family) -> None:
    for families in ((first, second), (second, first)):
        with pytest.raises(DeclarationError, match="already taken"):
            Table.of(families)


def test_too_many_series_cells_or_bytes_are_refused() -> None:
    values = tuple(str(number) for number in range(64))
    series = counter("trustchain_ca_x_total", "Help.", labels={"a": values, "b": values[:17]})
    cells = histogram("trustchain_ca_x_seconds", "Help.", labels={"a": values})
    text = [gauge(f"trustchain_ca_{number}_depth", "x" * 200) for number in range(300)]
    huge = counter("trustchain_ca_y_total", "Help.", labels=dict.fromkeys("abcdefghij", values))
    for families, reason in (
        ([series], "1088 series"),
        ([cells], "20544 cells"),
        (text, "bytes of table"),
        ([huge], "series"),
    ):
        with pytest.raises(DeclarationError, match=reason):
            Table.of(families)


def test_series_are_laid_out_one_after_the_other() -> None:
    table = Table.of(
        [
            gauge("trustchain_ca_depth", "Help.", labels={**COLOURS, "size": ("s", "l")}),
            histogram("trustchain_ca_wait_seconds", "Help.", labels=COLOURS),
            counter("trustchain_ca_x_total", "Help."),
        ]
    )
    assert [(dict(series.labels), series.cell) for series in table.series] == [
        ({"colour": "red", "size": "s"}, 0),
        ({"colour": "red", "size": "l"}, 1),
        ({"colour": "blue", "size": "s"}, 2),
        ({"colour": "blue", "size": "l"}, 3),
        ({"colour": "red"}, 4),
        ({"colour": "blue"}, 4 + CELLS),
        ({}, 4 + 2 * CELLS),
    ]
    assert table.cells == 5 + 2 * CELLS


def test_a_table_is_read_back_from_its_text() -> None:
    table = Table.of([*WORKER_FAMILIES, *operation("trustchain_ca_requests", "Requests.", labels=COLOURS)])
    assert Table.parse(table.text) == table


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[",
        b"\xff",
        b"[" * 60000,
        b'[{"name":"trustchain_x","kind":"gauge","help":"Help.","more":1}]',
        b'[{"name":"bad","kind":"gauge","help":"Help."}]',
        msgspec.json.encode([gauge("trustchain_ca_depth", "Help.")] * 2),
    ],
)
def test_any_other_text_is_damage(text: bytes) -> None:
    with pytest.raises(TableDamaged):
        Table.parse(text)


def test_an_operation_is_a_counter_by_result_and_a_histogram() -> None:
    total, seconds = operation("trustchain_ca_requests", "Requests.", labels=COLOURS)
    assert (total.name, total.help) == ("trustchain_ca_requests_total", "Requests, by result.")
    assert total.labels == (("colour", ("red", "blue")), ("result", ("ok", "rejected", "error")))
    assert (seconds.name, seconds.unit, seconds.labels) == (
        "trustchain_ca_requests_seconds",
        "seconds",
        total.labels[:1],
    )
