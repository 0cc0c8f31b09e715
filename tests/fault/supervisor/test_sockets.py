"""Listening sockets as the supervisor makes them, on loopback."""

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from config.topology import Listener, Service
from supervisor.errors import StartError
from supervisor.sockets import close_listeners, open_listeners

pytestmark = pytest.mark.fault

FreePort = Callable[[], int]


def service(*listeners: Listener) -> Service:
    return Service(name="api", module="x", listeners=listeners)


def tcp(address: str, port: int) -> Listener:
    return Listener(name="https", kind="tcp", address=address, port=port)


def refused(*listeners: Listener) -> str:
    with pytest.raises(StartError) as raised:
        open_listeners([service(*listeners)], lambda _: None)
    assert raised.value.exit_code == 1
    return str(raised.value)


def test_every_kind_of_socket_is_bound_and_grouped_by_name(free_port: FreePort, short_path: Path) -> None:
    port = free_port()
    dns = Listener(name="dns", kind="udp", address="127.0.0.1", port=port)
    rpc = Listener(name="rpc", kind="unix", path=str(short_path / "api.sock"))
    warnings: list[str] = []
    opened = open_listeners([service(tcp("127.0.0.1", port), tcp("::1", port), dns, rpc)], warnings.append)
    sockets = opened["api"]
    assert warnings == []
    assert [each.getsockname()[:2] for each in sockets["https"]] == [("127.0.0.1", port), ("::1", port)]
    assert all(each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) for each in sockets["https"])
    assert sockets["dns"][0].type == socket.SOCK_DGRAM
    assert (short_path / "api.sock").stat().st_mode & 0o777 == 0o600
    close_listeners(opened)
    assert list(short_path.iterdir()) == []


def test_ipv4_and_ipv6_wildcards_share_a_port(free_port: FreePort) -> None:
    port = free_port()
    opened = open_listeners([service(tcp("0.0.0.0", port), tcp("::", port))], lambda _: None)
    assert len(opened["api"]["https"]) == 2
    close_listeners(opened)


def test_an_address_that_this_host_does_not_have_is_skipped_if_another_is_left(free_port: FreePort) -> None:
    port = free_port()
    warnings: list[str] = []
    opened = open_listeners([service(tcp("127.0.0.1", port), tcp("2001:db8::1", port))], warnings.append)
    assert len(opened["api"]["https"]) == 1
    assert warnings == ["api does not listen on 2001:db8::1: this host has no such address"]
    close_listeners(opened)


def test_a_service_without_any_address_is_refused(free_port: FreePort) -> None:
    assert "none of the addresses of api (https) exists on this host: correct api.addresses" in refused(
        tcp("192.0.2.1", free_port()), tcp("2001:db8::1", free_port())
    )


def test_a_host_without_ipv6_is_served_over_ipv4(free_port: FreePort, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def without_ipv6(family: int = -1, kind: int = -1) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        return real(family, kind)

    port = free_port()
    monkeypatch.setattr("supervisor.sockets.socket.socket", without_ipv6)
    opened = open_listeners([service(tcp("127.0.0.1", port), tcp("::1", port))], lambda _: None)
    assert len(opened["api"]["https"]) == 1
    monkeypatch.undo()
    close_listeners(opened)


def test_a_port_in_use_names_port_and_setting_and_leaves_nothing_open(free_port: FreePort, short_path: Path) -> None:
    port = free_port()
    rpc = Listener(name="rpc", kind="unix", path=str(short_path / "api.sock"))
    with socket.create_server(("127.0.0.1", port)):
        text = refused(rpc, tcp("127.0.0.1", port))
    assert f"port {port} (api.port, tcp 127.0.0.1:{port}) is in use" in text
    assert "--set api.port=PORT" in text
    assert not (short_path / "api.sock").exists()


def test_a_service_with_two_ports_is_told_which_setting_is_meant(free_port: FreePort) -> None:
    port = free_port()
    plain = Listener(name="http", kind="tcp", address="127.0.0.1", port=port, prefix="http_")
    with socket.create_server(("127.0.0.1", port)):
        assert "--set api.http_port=PORT" in refused(tcp("127.0.0.1", free_port()), plain)
    nowhere = Listener(name="http", kind="tcp", address="192.0.2.1", port=port, prefix="http_")
    text = refused(tcp("127.0.0.1", free_port()), nowhere)
    assert "none of the addresses of api (http) exists on this host: correct api.http_addresses" in text


def test_a_port_that_needs_a_privilege_says_which(free_port: FreePort, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("supervisor.sockets._open_inet", forbidden)
    assert "CAP_NET_BIND_SERVICE" in refused(tcp("127.0.0.1", free_port()))


def test_a_left_over_unix_socket_is_replaced_but_never_a_file(short_path: Path) -> None:
    path = short_path / "api.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    rpc = Listener(name="rpc", kind="unix", path=str(path))
    opened = open_listeners([service(rpc)], lambda _: None)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    close_listeners(opened)
    path.write_text("precious")
    assert "is in the way and not a socket" in refused(rpc)
    assert path.read_text() == "precious"
