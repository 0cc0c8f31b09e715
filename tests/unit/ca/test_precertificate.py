"""Precertificates and their certificates: the same octets but for one extension."""

import pytest
from cryptography import x509

from services import der
from services.ca.issuance import precertificate
from services.ca.issuance.precertificate import (
    PrecertificateError,
    check_correspondence,
    embedded_scts,
    with_scts,
    without_poison,
    without_sct_list,
)
from tests.rig import fake_log
from tests.unit.ca.authorities import KEY_TYPES
from tests.unit.ca.broken import Parts, good, to_be_signed

SCT = bytes(range(100))
BEFORE, AFTER = (to_be_signed(one) for one in good())
(PROMISED,) = embedded_scts(AFTER)


def test_the_list_of_timestamps_takes_the_place_of_the_poison() -> None:
    after = with_scts(BEFORE, [SCT, PROMISED])
    assert embedded_scts(after) == (SCT, PROMISED)
    check_correspondence(BEFORE, after)
    before_places, after_places = ([*Parts.of(octets).extensions] for octets in (BEFORE, after))
    assert [place if place != "poison" else "timestamps" for place in before_places] == after_places


def test_what_is_removed_is_what_others_remove() -> None:
    """`cryptography` removes a list of timestamps, a reader of its own in the tests the poison."""
    leaf = x509.load_der_x509_certificate(good()[1])
    assert without_sct_list(AFTER) == leaf.tbs_precertificate_bytes
    assert without_poison(BEFORE) == fake_log.without_poison(BEFORE) == without_sct_list(AFTER)


@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_lengths_are_right_on_both_sides_of_every_limit(key_type: str) -> None:
    """Timestamps of any length: all lengths around them change their own number of octets somewhere."""
    assert key_type
    for size in (1, 100, 127, 128, 250, 256, 40_000, 65_000):
        after = with_scts(BEFORE, [bytes(size)])
        der.parse(after)
        check_correspondence(BEFORE, after)


def test_a_timestamp_list_that_cannot_be_is_not_embedded() -> None:
    for scts in ([], [b""], [bytes(65_536)], [bytes(40_000)] * 2):
        with pytest.raises(PrecertificateError, match=r"empty|do not fit"):
            with_scts(BEFORE, scts)


def poison(octets: str) -> bytes:
    """A precertificate whose poison extension is these octets behind its identifier."""
    parts = Parts.of(BEFORE)
    content = bytes.fromhex("060a2b06010401d679020403" + octets)
    parts.extensions["poison"] = der.encode(der.SEQUENCE, content)
    return parts.octets


def test_this_poison_is_one() -> None:
    assert poison("0101ff 04020500") == BEFORE


@pytest.mark.parametrize(
    "octets",
    [
        "04020500",  # not critical
        "010100 04020500",  # its criticality is the default, written
        "010101 04020500",  # a boolean that is not DER
        "0101ff 0400",  # empty
        "0101ff 04020501",  # no NULL
        "0101ff 0403050000",  # trailing data behind the NULL
        "0101ff 04020500 0500",  # trailing data behind the value
        "0101ff 0402 0400",  # something else
    ],
)
def test_a_poison_that_is_not_exactly_one_is_refused(octets: str) -> None:
    with pytest.raises(PrecertificateError, match="poison"):
        without_poison(poison(octets))


def doubled(octets: bytes, name: str) -> bytes:
    parts = Parts.of(octets)
    parts.extensions["again"] = parts.extensions[name]
    return parts.octets


def test_a_poison_that_is_absent_or_there_twice_is_refused() -> None:
    with pytest.raises(PrecertificateError, match="0 extensions that are a poison"):
        without_poison(AFTER)
    with pytest.raises(PrecertificateError, match="2 extensions that are a poison"):
        without_poison(doubled(BEFORE, "poison"))
    with pytest.raises(PrecertificateError, match="0 extensions"):
        with_scts(AFTER, [SCT])


def test_a_list_of_timestamps_that_is_absent_or_there_twice_is_refused() -> None:
    with pytest.raises(PrecertificateError, match="0 extensions that are a list"):
        without_sct_list(BEFORE)
    with pytest.raises(PrecertificateError, match="2 extensions that are a list"):
        without_sct_list(doubled(AFTER, "timestamps"))


@pytest.mark.parametrize(
    ("value", "critical"),
    [
        (b"\x04\x02\x00\x00", False),
        (b"\x04\x05\x00\x03\x00\x01\xff", True),
        (b"\x04\x06\x00\x03\x00\x01\xff\x00", False),
        (b"\x0c\x05\x00\x03\x00\x01\x41", False),
        (b"\x00\x03\x00\x01\xff", False),
    ],
)
def test_a_list_of_timestamps_that_is_none_is_refused(value: bytes, critical: bool) -> None:
    parts = Parts.of(AFTER)
    parts.put("timestamps", value, critical=critical)
    with pytest.raises(PrecertificateError, match="list"):
        without_sct_list(parts.octets)


def test_any_other_difference_between_the_two_is_found() -> None:
    check_correspondence(BEFORE, AFTER)
    for name in ("serial", "subject", "validity"):
        parts = Parts.of(AFTER)
        parts.fields[name] = parts.fields[name][:-1] + bytes([parts.fields[name][-1] ^ 1])
        with pytest.raises(PrecertificateError, match="is not the precertificate"):
            check_correspondence(BEFORE, parts.octets)
    parts = Parts.of(AFTER)
    parts.extensions = dict(reversed(parts.extensions.items()))
    with pytest.raises(PrecertificateError, match="is not the precertificate"):
        check_correspondence(BEFORE, parts.octets)


def test_a_certificate_with_both_corresponds_to_nothing() -> None:
    parts = Parts.of(AFTER)
    parts.extensions["poison"] = Parts.of(BEFORE).extensions["poison"]
    for before, after in ((BEFORE, parts.octets), (parts.octets, AFTER), (BEFORE, BEFORE), (AFTER, AFTER)):
        with pytest.raises(PrecertificateError):
            check_correspondence(before, after)


def test_the_only_extension_leaves_no_empty_list_behind() -> None:
    """RFC 5280, section 4.1: Extensions has at least one member, or is left out."""
    parts = Parts.of(BEFORE)
    parts.extensions = {"poison": parts.extensions["poison"]}
    left = der.parse(without_poison(parts.octets))
    assert [child.tag for child in left.children][-1] == der.SEQUENCE
    assert len(left.children) == 7


@pytest.mark.parametrize("octets", [b"", b"\x30\x00", b"\x05\x00", BEFORE[:-1], BEFORE + b"\0", BEFORE[1:]])
def test_what_is_no_certificate_to_be_signed_is_refused(octets: bytes) -> None:
    for read in (without_poison, without_sct_list, embedded_scts):
        with pytest.raises(PrecertificateError):
            read(octets)
    with pytest.raises(PrecertificateError):
        with_scts(octets, [SCT])


def test_the_builders_poison_is_the_one_that_is_removed() -> None:
    assert x509.PrecertPoison() == precertificate.POISON
    assert Parts.of(BEFORE).extensions["poison"] == fake_log.POISON
