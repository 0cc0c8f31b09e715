"""The API through time: restarts, a dying authority, renewal, floods, drain."""

import asyncio
import concurrent.futures
import errno
import os
import socket
import ssl
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.errors import ConfigurationError, ProbeFailed, Refused, StorageUnavailable, Unavailable
from tests.integration.running_api import RunningApi
from tests.rig.polling import eventually
from tests.rig.signing_request import new_key, signing_request
from tests.rig.tree import remove_directory, short_directory

pytestmark = pytest.mark.integration

CSR = signing_request("a.test", key=new_key())


@pytest.fixture
def directory() -> Iterator[Path]:
    made = short_directory()
    yield made
    remove_directory(made)


def issue(api: RunningApi) -> int:
    return api.ask("POST", "/v1/certificates", {"csr": CSR}).status


def probe(api: RunningApi) -> None:
    assert api.service is not None
    api.run(api.service.probe())


def serial_presented(api: RunningApi) -> str:
    with api.connect() as connection:
        certificate = connection.getpeercert()
        assert certificate is not None
        return str(certificate["serialNumber"])


def test_a_first_start_leaves_a_token_and_a_certificate_that_only_the_owner_can_read(directory: Path) -> None:
    with RunningApi(directory) as api:
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (api.paths.admin_token, api.paths.api_dir)}
        files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in api.paths.api_dir.iterdir()}
        assert modes == {"admin.token": 0o600, "api": 0o700}
        assert files == {"tls.pem": 0o600}


def test_a_restart_presents_the_stored_certificate_without_asking_anybody(directory: Path) -> None:
    with RunningApi(directory) as api:
        before, asked = serial_presented(api), len(api.authority.requests)
        api.stop()
        api.run(api.authority.kill())
        api.start()
        assert serial_presented(api) == before
        assert len(api.authority.requests) == asked
        api.run(api.authority.start())


def test_a_start_without_a_certificate_waits_for_the_authority(directory: Path) -> None:
    with RunningApi(directory) as api:
        api.stop()
        (api.paths.api_dir / "tls.pem").unlink()
        api.run(api.authority.kill())
        starting = api.begin(api._start())
        with pytest.raises(concurrent.futures.TimeoutError):
            starting.result(0.3)
        api.run(api.authority.start())
        starting.result(10)
        assert issue(api) == 201


@pytest.mark.parametrize("damage", [b"", b"rubbish", None])
def test_a_damaged_certificate_file_is_replaced_by_a_new_certificate(directory: Path, damage: bytes | None) -> None:
    with RunningApi(directory) as api:
        file = api.paths.api_dir / "tls.pem"
        before = serial_presented(api)
        api.stop()
        file.write_bytes(damage if damage is not None else file.read_bytes()[:-200])
        api.start()
        assert serial_presented(api) != before


def test_a_request_in_flight_when_the_authority_dies_succeeds(directory: Path) -> None:
    with RunningApi(directory) as api, concurrent.futures.ThreadPoolExecutor() as threads:
        begun = asyncio.Event()

        async def stall(_: object) -> None:
            begun.set()
            await asyncio.sleep(60)

        api.authority.fault = stall
        status = threads.submit(issue, api)
        api.run(begun.wait())
        api.authority.fault = None
        api.run(api.authority.kill())
        time.sleep(0.1)  # the time that a replacement takes: the call waits in the backlog
        api.run(api.authority.start())
        assert status.result(10) == 201


def test_a_question_in_flight_when_the_log_dies_is_asked_of_its_successor(directory: Path) -> None:
    with RunningApi(directory) as api, concurrent.futures.ThreadPoolExecutor() as threads:
        begun = asyncio.Event()

        async def stall(_: object) -> None:
            begun.set()
            await asyncio.sleep(60)

        api.log.fault = stall
        answer = threads.submit(lambda: api.ask("GET", "/ct/v1/get-sth", token=None))
        api.run(begun.wait())
        assert issue(api) == 201, "what the log does not do keeps nobody from the authority"
        api.log.fault = None
        api.run(api.log.kill())
        time.sleep(0.1)  # the time that a replacement takes: the call waits in the backlog
        api.run(api.log.start())
        assert answer.result(10).status == 200


def test_a_log_that_does_not_answer_is_504_and_named(directory: Path) -> None:
    with RunningApi(directory, request_timeout=0.3) as api:

        async def stall(_: object) -> None:
            await asyncio.sleep(60)

        api.log.fault = stall
        answer = api.ask("GET", "/ct/checkpoint", token=None)
        assert answer.status == 504
        assert "the transparency log did not answer in time" in answer.json()["detail"]
        probe(api)


def test_no_request_fails_while_the_authority_is_replaced_again_and_again(directory: Path) -> None:
    with RunningApi(directory) as api, concurrent.futures.ThreadPoolExecutor() as threads:
        ending = time.monotonic() + 1.5

        def client() -> list[int]:
            statuses = []
            while time.monotonic() < ending:
                statuses.append(issue(api))
            return statuses

        clients = [threads.submit(client) for _ in range(3)]
        while time.monotonic() < ending:
            time.sleep(0.15)
            api.run(api.authority.kill())
            time.sleep(0.03)
            api.run(api.authority.start())
        statuses = [status for one in clients for status in one.result(20)]
        assert set(statuses) == {201}
        assert len(statuses) > 20


def test_an_authority_that_does_not_answer_is_504_at_the_deadline(directory: Path) -> None:
    with RunningApi(directory, request_timeout=0.3) as api:

        async def stall(_: object) -> None:
            await asyncio.sleep(60)

        api.authority.fault = stall
        started = time.monotonic()
        assert issue(api) == 504
        assert 0.25 <= time.monotonic() - started < 5.0


def test_an_authority_that_is_away_is_waited_for_until_the_deadline(directory: Path) -> None:
    with RunningApi(directory, request_timeout=0.3) as api:
        api.run(api.authority.kill())
        assert issue(api) in (503, 504)
        api.run(api.authority.start())
        assert issue(api) == 201


def test_too_many_requests_without_a_token_are_429_and_those_with_one_are_not(directory: Path) -> None:
    with RunningApi(directory, unauthorized_rate=0.5, unauthorized_burst=3) as api:
        answers = [api.ask("GET", "/v1/certificates", token=None) for _ in range(5)]
        assert [answer.status for answer in answers] == [401, 401, 401, 429, 429]
        assert answers[-1].headers["retry-after"] == "2"
        assert api.ask("GET", "/v1/ca/roots", token="wrong").status == 429, (
            "with a wrong token the route does not matter"
        )
        assert api.ask("GET", "/v1/ca/roots", token=None).status == 200
        assert issue(api) == 201
        assert api.count("trustchain_api_rejections_total", reason="rate-limited") == 3
        probe(api)


def test_what_needs_no_token_has_a_limit_of_its_own_on_both_interfaces_together(directory: Path) -> None:
    with RunningApi(directory, public_rate=0.5, public_burst=4) as api:
        crl = f"/crl/{api.authority.issuer_id}/0.crl"
        assert [api.ask("GET", "/ct/v1/get-sth", token=None).status for _ in range(2)] == [200, 200]
        assert [api.ask_plain("GET", crl).status for _ in range(3)] == [200, 200, 429]
        assert api.ask("GET", "/ct/v1/get-sth", token=None).status == 429
        assert api.ask("GET", "/v1/certificates", token=None).status == 401
        assert api.ask("GET", "/ct/v1/get-sth").status == 200, "a valid token has its own limit"
        probe(api)


def test_a_token_has_a_limit_of_its_own_that_the_probe_does_not_share(directory: Path) -> None:
    with RunningApi(directory, rate_limit=0.5, rate_burst=2) as api:
        assert [issue(api) for _ in range(3)] == [201, 201, 429]
        probe(api)


def test_renewal_happens_while_serving_and_open_connections_go_on(directory: Path) -> None:
    with RunningApi(directory) as api:
        old = api.client()
        old.connect()
        before = serial_presented(api)
        certificate = api.service._certificate  # type: ignore[union-attr]  # it runs
        api.run(certificate._renew())
        assert serial_presented(api) != before
        old.request("GET", "/v1/ca/roots")
        assert old.getresponse().status == 200
        old.close()
        assert api.count("trustchain_api_certificate_renewals_total", result="ok") == 2
        gauge = api.metrics.gauge("trustchain_api_certificate_not_after_timestamp_seconds").value
        assert gauge == certificate.not_after


def test_a_certificate_past_two_thirds_of_its_life_is_renewed_by_itself(directory: Path) -> None:
    with RunningApi(directory, certificate_validity=60) as api:
        # The stored certificate was valid for 120 s, of which 115 are over.
        api.authority.lifetime_shift = -55
        api.run(api.service._certificate._renew())  # type: ignore[union-attr]  # it runs
        ageing = serial_presented(api)
        api.stop()
        api.authority.lifetime_shift = 0
        api.start()
        eventually("the certificate was renewed", lambda: serial_presented(api) != ageing, 10.0)


def test_a_failing_renewal_is_counted_retried_and_told_by_the_probe_when_time_runs_out(directory: Path) -> None:
    with RunningApi(directory, certificate_validity=60) as api:
        api.authority.lifetime_shift = -50
        api.run(api.service._certificate._renew())  # type: ignore[union-attr]  # it runs
        api.stop()
        api.authority.issue_fault = Unavailable("the disk is full")
        api.start()
        eventually(
            "the renewal failed twice",
            lambda: api.count("trustchain_api_certificate_renewals_total", result="error") >= 2,
            10.0,
        )
        with pytest.raises(
            ProbeFailed, match=r"expires in .* and its renewal fails: unavailable: the disk is full"
        ) as told:
            probe(api)
        assert told.value.cause == "dependency"
        api.authority.issue_fault = None
        api.authority.lifetime_shift = 0
        eventually("the probe passes again", lambda: _probe_passes(api), 10.0)


def _probe_passes(api: RunningApi) -> bool:
    try:
        probe(api)
    except ProbeFailed:
        return False
    return True


def test_the_probe_blames_the_authority_for_what_the_authority_does(directory: Path) -> None:
    with RunningApi(directory) as api:
        for fault in (Unavailable("full"), ZeroDivisionError()):
            api.authority.fault = fault
            with pytest.raises(ProbeFailed) as caught:
                probe(api)
            assert caught.value.cause == "dependency"
        api.authority.fault = None
        probe(api)


def test_the_probe_finds_a_slow_authority_before_its_own_time_is_over(directory: Path) -> None:
    with RunningApi(directory) as api:

        async def stall(_: object) -> None:
            await asyncio.sleep(60)

        api.authority.fault = stall
        started = time.monotonic()
        with pytest.raises(ProbeFailed) as caught:
            probe(api)
        assert caught.value.cause == "dependency"
        assert time.monotonic() - started < 5.0


def test_the_probe_is_no_traffic(directory: Path) -> None:
    with RunningApi(directory) as api:
        probe(api)
        probe(api)
        assert api.count("trustchain_api_requests_total", route="get_roots", result="ok") == 0


def test_the_probe_notices_a_server_that_does_not_accept(directory: Path) -> None:
    with RunningApi(directory) as api:
        connections = api.service._connections  # type: ignore[union-attr]  # it runs

        async def deaf_probe() -> None:
            connections._pause_listening()
            try:
                async with asyncio.timeout(0.5):
                    await api.service.probe()  # type: ignore[union-attr]  # it runs
            finally:
                connections._listen()

        with pytest.raises(TimeoutError):
            api.run(deaf_probe())
        probe(api)


def test_a_full_disk_at_the_first_start_is_something_to_wait_for(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with RunningApi(directory) as api:
        for file in (api.paths.api_dir / "tls.pem", api.paths.admin_token):
            api.stop()
            content = file.read_bytes()
            file.unlink()
            with monkeypatch.context() as patched:
                for module in ("certificate", "tokens"):
                    patched.setattr(f"services.api.{module}.write_files", full)
                with pytest.raises(StorageUnavailable, match="No space left"):
                    api.start()
            assert not file.exists()
            file.touch(0o600)
            file.write_bytes(content)
            api.start()
        assert issue(api) == 201


def test_the_authoritys_refusal_of_the_apis_own_certificate_is_for_the_operator(directory: Path) -> None:
    with RunningApi(directory) as api:
        api.stop()
        (api.paths.api_dir / "tls.pem").unlink()
        api.authority.fault = Refused("forbidden-name", "csr", "the name 'x' is denied")
        with pytest.raises(ConfigurationError, match=r"see api\.names"):
            api.start()
        api.service = None
        api.authority.fault = None
        api.start()


def test_the_certificate_is_not_trusted_by_another_root(directory: Path) -> None:
    with RunningApi(directory) as api, pytest.raises(ssl.SSLCertVerificationError):
        ssl.create_default_context().wrap_socket(
            socket.create_connection(("127.0.0.1", api.port), timeout=10), server_hostname="localhost"
        )
