"""One call of the command line to the running authority, over its Unix socket.

Rules:
- A tree that does not run is told at once: the socket is tried before the call, which would wait for a successor.
- A call that changes something is sent once. When the connection breaks nobody knows whether it was carried out, and
  the text says how to find out.
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Final, TypeVar

from msgspec import Struct

from config.schema import Settings
from services.cli_client import CommandError
from services.errors import Refused, RemoteError, Unavailable
from services.rpc_client import Client

T = TypeVar("T", bound=Struct)

TIMEOUT_SECONDS: Final = 60.0  # two RSA keys may take several seconds on a busy host


def ask(settings: Settings, method: str, request: Struct, reply_type: type[T]) -> T:
    """Return the authority's reply. Raises CommandError."""
    path = settings.paths.rpc_socket("ca")
    _try(path)
    try:
        return asyncio.run(_call(path, method, request, reply_type))
    except Refused as error:
        field = f" ({error.field})" if error.field else ""
        raise CommandError(f"refused: {error.kind}{field}: {error.detail}") from error
    except Unavailable as error:
        raise CommandError(f"the authority cannot do it now: {error.detail}") from error
    except RemoteError as error:
        raise CommandError(f"{error.detail}. `trustchain ca list` shows what there is now") from error


async def _call(path: Path, method: str, request: Struct, reply_type: type[T]) -> T:
    client = Client(path)
    try:
        return await client.call(method, request, reply_type, timeout=TIMEOUT_SECONDS)
    finally:
        await client.close()


def _try(path: Path) -> None:
    try:
        with socket.socket(socket.AF_UNIX) as tried:
            tried.settimeout(TIMEOUT_SECONDS)
            tried.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        raise CommandError(
            f"nothing answers at {path}: these commands act through the running tree; start it with `trustchain run`, "
            "or name its data directory with --data-dir"
        ) from None
    except OSError as error:
        raise CommandError(f"{path} cannot be used ({error.strerror}): run this as the user of the service") from error
