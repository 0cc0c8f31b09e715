"""What must hold between settings, at its limit and just beyond."""

import pytest

from config.loader import ConfigError, load

HOME = {"HOME": "/home/operator"}


def problems(*overrides: str) -> list[str]:
    try:
        load(None, None, None, overrides, HOME)
    except ConfigError as error:
        return [f"{problem.key}: found {problem.found}, expected {problem.expected}" for problem in error.problems]
    return []


@pytest.mark.parametrize(
    ("fits", "contradicts", "expected"),
    [
        (
            ["supervisor.heartbeat_interval=2", "supervisor.heartbeat_timeout=4.01"],
            ["supervisor.heartbeat_interval=2", "supervisor.heartbeat_timeout=4"],
            "supervisor.heartbeat_timeout: found 4, expected more than twice supervisor.heartbeat_interval, which is 2",
        ),
        (
            ["supervisor.backoff_initial=30"],
            ["supervisor.backoff_initial=30.5"],
            "supervisor.backoff_max: found 30, expected at least supervisor.backoff_initial, which is 30.5",
        ),
        (
            ["monitoring.health_check_interval=30"],
            ["monitoring.health_check_interval=31"],
            (
                "supervisor.verdict_max_age: found 60,"
                " expected at least twice monitoring.health_check_interval, which is 31"
            ),
        ),
        (
            ["monitoring.collection_interval=60", "monitoring.retention_seconds=120"],
            ["monitoring.collection_interval=60", "monitoring.retention_seconds=119"],
            (
                "monitoring.retention_seconds: found 119,"
                " expected at least twice monitoring.collection_interval, which is 60"
            ),
        ),
        (
            ["ca.pkcs11_module=/m.so", "ca.pkcs11_pin=prompt"],
            ["ca.pkcs11_module=/m.so"],
            'ca.pkcs11_pin: found "none", expected a source of the PIN, because ca.pkcs11_module names a token',
        ),
        (
            ["ca.pkcs11_module=/m.so", "ca.pkcs11_pin=prompt", "ca.key_type=rsa3072"],
            ["ca.pkcs11_module=/m.so", "ca.pkcs11_pin=prompt", "ca.key_type=ed25519"],
            'ca.key_type: found "ed25519", expected "p256" or "rsa3072", which are made in tokens',
        ),
        (
            ["ca.key_passphrase=fd:3", "ca.pkcs11_pin=fd:4"],
            ["ca.key_passphrase=fd:3", "ca.pkcs11_pin=fd:3"],
            'ca.pkcs11_pin: found "fd:3", expected a file descriptor of its own',
        ),
        (
            ["ca.default_validity=7776000"],
            ["ca.default_validity=7776001"],
            "ca.default_validity: found 7776001, expected at most ca.max_validity, which is 7776000",
        ),
        (
            ["ca.crl_interval=86399"],
            ["ca.crl_interval=86400"],
            "ca.crl_interval: found 86400, expected less than ca.crl_validity, which is 86400",
        ),
        (
            ["ca.intermediate_lifetime_days=91"],
            ["ca.intermediate_lifetime_days=90"],
            (
                "ca.max_validity: found 7776000,"
                " expected less than ca.intermediate_lifetime_days, which is 7776000 seconds"
            ),
        ),
        (
            ["ca.root_lifetime_days=1825"],
            ["ca.root_lifetime_days=1824"],
            "ca.intermediate_lifetime_days: found 1825, expected at most ca.root_lifetime_days, which is 1824",
        ),
        (
            ["api.certificate_validity=7776000"],
            ["api.certificate_validity=7776001"],
            "api.certificate_validity: found 7776001, expected at most ca.max_validity, which is 7776000",
        ),
        (
            ["api.body_timeout=10"],
            ["api.body_timeout=10.5"],
            "api.body_timeout: found 10.5, expected at most api.request_timeout, which is 10",
        ),
        (
            ["api.port=9090", "monitoring.enabled=false"],
            ["api.port=9090"],
            "api.port: found 9090, expected a port of its own; monitoring.port has this one",
        ),
        (
            ["api.http_port=9090", "monitoring.enabled=false"],
            ["api.http_port=9090"],
            "api.http_port: found 9090, expected a port of its own; monitoring.port has this one",
        ),
        (
            ["api.http_port=8442"],
            ["api.http_port=8443"],
            "api.http_port: found 8443, expected a port of its own; api.port has this one",
        ),
    ],
)
def test_settings_that_contradict_each_other(fits: list[str], contradicts: list[str], expected: str) -> None:
    assert problems(*fits) == []
    assert problems(*contradicts) == [expected]


@pytest.mark.parametrize("character", ["x", "é"])
def test_a_socket_path_has_at_most_107_bytes(character: str) -> None:
    longest = 107 - len("/control.sock") - 1
    fits = character * (longest // len(character.encode()))
    assert problems(f"server.runtime_dir=/{fits}") == []
    directory = f"/{fits}{character}"
    size = len(f"{directory}/control.sock".encode())
    assert problems(f"server.runtime_dir={directory}") == [
        (
            f"server.runtime_dir: found a directory whose socket {directory}/control.sock has a path of {size} bytes,"
            " expected a shorter directory: the path of a Unix socket has at most 107 bytes"
        )
    ]


def test_a_long_data_directory_is_fine_with_a_short_runtime_directory() -> None:
    long = f"server.data_dir=/{'x' * 200}"
    assert len(problems(long)) == 1
    assert problems(long, "server.runtime_dir=/run/x") == []


def test_contradictions_do_not_hide_each_other() -> None:
    assert len(problems("supervisor.backoff_initial=60", "api.port=9090", "api.body_timeout=11")) == 3
