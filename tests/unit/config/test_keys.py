"""Every key is judged by the schema, and described in words that say the same."""

import math
import re
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.keys import ALL_PATHS, KEYS, ROOT, nearest


@pytest.mark.parametrize("path", [path for path, key in KEYS.items() if not key.is_directory])
def test_every_default_is_within_its_own_bounds(path: str) -> None:
    assert KEYS[path].judged(KEYS[path].default) == KEYS[path].default


@pytest.mark.parametrize("path", [path for path, key in KEYS.items() if " from " in key.expected])
def test_bounds_are_inclusive_and_described(path: str) -> None:
    key = KEYS[path]
    words = key.expected.partition(" from ")[2].split()
    integral = key.expected.startswith("an integer")
    low, high = (int(word) if integral else float(word) for word in (words[0], words[2]))
    step = 1 if integral else 0.001
    assert (key.judged(low), key.judged(high)) == (low, high)
    for value in (low - step, high + step, math.nan, math.inf, -math.inf, str(low), True, None, [low]):
        with pytest.raises(ValueError, match="from"):
            key.judged(value)


@pytest.mark.parametrize(
    ("path", "taken", "refused"),
    [
        ("server.domain", ["a", "a-b.c1", "xn--bcher-kva.example", "1.example", "a" * 63 + ".b"],
         ["", ".", "a.", ".a", "a..b", "-a", "a-", "a_b", "A.b", "*.b", "a" * 64, "a b", "127.0.0.1", "a.1",
          "a." * 126 + "ab", "ä"]),
        ("api.names", [["a.example", "192.0.2.1", "2001:db8::1"]],
         [["192.0.2.256"], ["a/b"], ["10.0.0.0/8"], "a.example"]),
        ("ca.denied_names", [[], ["corp.internal", "10.0.0.0/8", "2001:db8::/32", "192.0.2.1"]],
         [["10.0.0.1/8"], [".corp"], ["fe80::%1/64"], ["fe80::1%eth0"], ["a", "a"]]),
        ("api.addresses", [["0.0.0.0", "::"], ["192.0.2.1"]],
         [[], ["localhost"], ["0:0::1"], ["::1%lo"], ["::1", "::1"], ["1.2.3"],
          ["1.2.3.04"], [f"10.0.0.{i}" for i in range(17)]]),
        ("ca.name", ["x", "Corp Root 7", "Ä" * 48], ["", " x", "x ", "a\nb", "x" * 49, "\x7f", "\u200f"]),
        ("server.data_dir", ["/x", "x y"], ["", "/a\0b", "/a\nb", "/" + "x" * 4095, "/\udcff"]),
        ("log.level", ["debug", "error"], ["", "DEBUG", "trace", None]),
    ],
)  # fmt: skip
def test_strings_are_of_their_kind(path: str, taken: list[object], refused: list[object]) -> None:
    key = KEYS[path]
    for value in taken:
        judged = key.judged(value)
        assert judged == (tuple(value) if isinstance(value, list) else value)
    for value in refused:
        with pytest.raises(ValueError, match=re.escape(key.expected)):
            key.judged(value)


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ("supervisor.heartbeat_timout", "supervisor.heartbeat_timeout"),
        ("supervisor.heartbeat", "supervisor.heartbeat_timeout"),
        ("monitoring.alert_threshold", "monitoring.alert_thresholds"),
        ("monitoring.max_memory_mb", "monitoring.alert_thresholds.max_memory_mb"),
        ("apis", "api"),
        ("domain", "server.domain"),
        ("server.key_type", "ca.key_type"),
        ("zzz", ""),
        ("api.zzz", ""),
    ],
)
def test_nearest(wrong: str, expected: str) -> None:
    section = ROOT
    for name in wrong.split(".")[:-1]:
        node = section[name]
        assert isinstance(node, Mapping)
        section = node
    assert nearest(wrong, section) == expected


@given(st.text())
def test_what_is_nearest_is_valid(wrong: str) -> None:
    assert nearest(wrong, ROOT) in {"", *ALL_PATHS}
