"""What revocation status costs: `python -m tests.bench.bench_status`.

Lists by their number of entries: signing, reading, size. OCSP: reading a request, signing an answer, one from memory.
"""

import sys
import time
from collections.abc import Callable

from services.ca.policy.profile import Validity
from services.ca.status import crl, ocsp
from services.ca.status.crl import Entry, Scope
from services.ca.status.ocsp import Responder, Status
from services.ca.status.ocsp_cache import AnswerCache
from tests.unit.ca.applicants import p256_key
from tests.unit.ca.authorities import NOW, hierarchy_of

ROUNDS = 5


def best(call: Callable[[], object], times: int) -> float:
    """Seconds of one call, in the best of some rounds."""
    taken = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(times):
            call()
        taken.append((time.perf_counter() - started) / times)
    return min(taken)


def lists() -> None:
    issuer = hierarchy_of().issuer
    scope = Scope(("http://pki.example/crl/0a/1.crl",))
    _say("entries    signing ms  reading ms       octets")
    for count in (0, 100, 1_000, 10_000, 100_000):
        entries = [Entry(2**127 + number * 9_999_991, NOW, "superseded") for number in range(count)]
        der = crl.sign(issuer, scope, entries, 1, NOW, NOW + 60)

        def sign(entries: list[Entry] = entries) -> object:
            return crl.sign(issuer, scope, entries, 1, NOW, NOW + 60)

        def read(der: bytes = der) -> object:
            return crl.entries(der)

        times = max(1, 1_000 // (count + 1))
        _say(f"{count:7}  {best(sign, times) * 1e3:12.2f}{best(read, times) * 1e3:12.2f}{len(der):13}")


def answers() -> None:
    issuer = hierarchy_of().issuer
    key = p256_key()
    responder = Responder(ocsp.sign_responder(issuer, key, 5, Validity(NOW, NOW + 9_999)), key)
    request = ocsp.request_for(ocsp.hashes_of(issuer.certificate)[0], 2**127 + 1)
    asked, cache = ocsp.parse(request), AnswerCache()
    answer = ocsp.answer(asked, Status("good"), responder, NOW, backdate=60, lifetime=3_600)
    cache.put(asked, "good", answer, NOW)
    _say(f"a request is read in   {best(lambda: ocsp.parse(request), 500) * 1e6:7.1f} us")
    sign = best(lambda: ocsp.answer(asked, Status("good"), responder, NOW, backdate=60, lifetime=3_600), 500)
    _say(f"an answer is signed in {sign * 1e6:7.1f} us, has {len(answer.der)} octets")
    _say(f"one from memory takes  {best(lambda: cache.get(asked, NOW), 500) * 1e6:7.1f} us")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    lists()
    answers()
