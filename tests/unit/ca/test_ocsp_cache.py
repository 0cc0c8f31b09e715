"""Signed OCSP answers in memory."""

import pytest

from services.ca.status.ocsp import Answer, CertId
from services.ca.status.ocsp_cache import AnswerCache

NOW = 1_000_000
LIFE = 4000


def question(serial: int, digest: str = "sha1") -> CertId:
    return CertId(digest, b"name", b"key", serial)


def answer(now: int = NOW) -> Answer:
    return Answer(b"answer %d" % now, now - 60, now + LIFE, now)


def test_an_answer_is_given_until_half_of_its_time() -> None:
    cache = AnswerCache()
    cache.put(question(1), "good", answer(), NOW)
    assert cache.get(question(1), NOW) == ("good", answer())
    assert cache.get(question(1), NOW + LIFE // 2 - 1) == ("good", answer())
    assert cache.get(question(1), NOW + LIFE // 2) is None
    assert cache.get(question(1), NOW - 61) is None, "the clock was set back: it does not hold yet"
    assert cache.get(question(2), NOW) is None
    assert cache.get(question(1, "sha256"), NOW) is None


def test_a_revocation_drops_all_answers_about_a_serial_number() -> None:
    cache = AnswerCache()
    for digest in ("sha1", "sha256"):
        cache.put(question(1, digest), "good", answer(), NOW)
    cache.put(question(2), "good", answer(), NOW)
    cache.drop(1)
    cache.drop(3)
    assert cache.get(question(1), NOW) is None
    assert cache.get(question(1, "sha256"), NOW) is None
    assert cache.get(question(2), NOW) is not None
    assert len(cache) == 1


def test_the_least_recently_asked_make_room() -> None:
    cache = AnswerCache(3)
    for serial in (1, 2, 3):
        cache.put(question(serial), "good", answer(), NOW)
    cache.get(question(1), NOW)
    cache.put(question(4), "good", answer(), NOW)
    assert cache.get(question(2), NOW) is None
    assert all(cache.get(question(serial), NOW) for serial in (1, 3, 4))


def test_what_was_asked_for_is_to_be_signed_ahead_and_the_rest_is_forgotten() -> None:
    cache = AnswerCache()
    for serial in (1, 2, 3):
        cache.put(question(serial), "good", answer(), NOW)
    cache.get(question(1), NOW)
    cache.get(question(3), NOW)
    soon = NOW + LIFE // 2 - LIFE // 8
    assert cache.to_sign_ahead(soon - 1, 10) == []
    assert set(cache.to_sign_ahead(soon, 10)) == {question(1), question(3)}
    assert len(cache.to_sign_ahead(soon, 1)) == 1
    cache.to_sign_ahead(NOW + LIFE // 2, 10)
    assert len(cache) == 2, "nobody asked for the second"
    cache.put(question(1), "revoked", answer(soon), soon)
    assert question(1) not in cache.to_sign_ahead(soon, 10), "it was signed anew"
    assert cache.get(question(1), soon) == ("revoked", answer(soon))


def test_a_cache_without_room_does_not_construct() -> None:
    with pytest.raises(ValueError, match="room"):
        AnswerCache(0)
