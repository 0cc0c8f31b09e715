"""The control socket's other end: one question, one answer. Imports next to nothing, because `status` is run often."""

import socket
from pathlib import Path

import msgspec

from supervisor.messages import Reply, Request


class NotRunningError(Exception):
    """Nobody answers on the control socket."""


def ask(path: Path, request: Request, timeout: float) -> Reply:
    """Send one request and return its reply. Raises NotRunningError, whose text says what to look at."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(timeout)
            client.connect(str(path))
            client.sendall(msgspec.json.encode(request) + b"\n")
            with client.makefile("rb") as lines:
                line = lines.readline()
    except (FileNotFoundError, ConnectionRefusedError):
        raise NotRunningError(f"TrustChain is not running: no supervisor listens on {path}") from None
    except PermissionError:
        text = f"not permitted to speak to the supervisor on {path}: run this as root or as its user"
        raise NotRunningError(text) from None
    except TimeoutError:
        raise NotRunningError(f"the supervisor on {path} did not answer within {timeout:g} s") from None
    except OSError as error:
        raise NotRunningError(f"the supervisor on {path} cannot be asked: {error.strerror}") from None
    try:
        return msgspec.json.decode(line, type=Reply)
    except msgspec.DecodeError:
        raise NotRunningError(f"the supervisor on {path} closed the connection without an answer") from None
