"""The API as the command line uses it: one request at a time over HTTPS, with the tree's own root and token.

Rules:
- Only the root certificate of the data directory is trusted, and the token comes from its file: never from arguments,
  which every user of the host can read.
- A worker that is being replaced is waited for: a broken connection and a 503 are tried again, a refusal is not.
- Every failure is a CommandError whose text tells the operator what to do.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import msgspec

from config.schema import Settings
from services.api import tokens
from services.api.problems import ProblemDocument
from services.errors import ConfigurationError

T = TypeVar("T")

SERVER_ERRORS: Final = 500
ATTEMPTS: Final = 5
_PAUSE_SECONDS: Final = 0.2
_GRACE_SECONDS: Final = 5.0
_LOOPBACK_OF: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - recognised here, not bound to


class CommandError(Exception):
    """A command that could not be carried out. The text is for the operator."""


class _TryAgainError(Exception):
    """The same request may succeed in a moment."""


class ApiClient:
    """Talks to the API of the tree with these settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._context = _trusting_only(settings)
        self._token = _administrator_token(settings)

    def get(self, path: str, reply_type: type[T], parameters: dict[str, Any] | None = None) -> T:
        """Return what is at `path`. Raises CommandError."""
        return self._request("GET", f"{path}?{urlencode(parameters)}" if parameters else path, None, reply_type)

    def post(self, path: str, body: dict[str, Any], reply_type: type[T]) -> T:
        """Send `body` and return the reply. Raises CommandError."""
        return self._request("POST", path, json.dumps(body).encode("utf-8"), reply_type)

    def _request(self, method: str, path: str, body: bytes | None, reply_type: type[T]) -> T:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                status, content = self._exchange(method, path, body)
            except _TryAgainError as error:
                if attempt == ATTEMPTS:
                    raise CommandError(str(error)) from error
                time.sleep(_PAUSE_SECONDS * attempt)
            else:
                return self._decoded(status, content, reply_type)
        raise AssertionError("the last attempt returns or raises")

    def _exchange(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        connection = self._connected()
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise _TryAgainError(f"the connection broke: {str(error) or type(error).__name__}") from error
        finally:
            connection.close()
        if response.status == http.client.SERVICE_UNAVAILABLE:
            raise _TryAgainError(_refusal_text(response.status, content))
        return response.status, content

    def _connected(self) -> http.client.HTTPSConnection:
        """The first listening address that answers is as good as any other."""
        api = self._settings.api
        refusal: OSError | None = None
        for address in api.addresses:
            host = _LOOPBACK_OF.get(address, address)
            timeout = api.request_timeout + _GRACE_SECONDS
            connection = http.client.HTTPSConnection(host, api.port, timeout=timeout, context=self._context)
            try:
                connection.connect()
            except ssl.SSLCertVerificationError as error:
                raise CommandError(
                    f"https://{host}:{api.port} is not the API of the tree in {self._settings.server.data_dir}: its "
                    f"certificate is not trusted ({error.verify_message}). Check --data-dir and api.port."
                ) from error
            except OSError as error:
                refusal = error
            else:
                return connection
        raise _TryAgainError(
            f"nothing answers on port {api.port} of {', '.join(api.addresses)} ({refusal}). "
            "Is the tree running? See `trustchain status`."
        )

    def _decoded(self, status: int, content: bytes, reply_type: type[T]) -> T:
        if status >= http.client.BAD_REQUEST:
            raise CommandError(_refusal_text(status, content))
        try:
            return msgspec.json.decode(content, type=reply_type)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CommandError(f"the API's answer is not understood by this version of trustchain: {error}") from error


def _refusal_text(status: int, content: bytes) -> str:
    try:
        problem = msgspec.json.decode(content, type=ProblemDocument)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return f"the API answers with status {status}"
    field = f" (field: {problem.field})" if problem.field else ""
    if status < SERVER_ERRORS:
        return f"{problem.title}: {problem.detail}{field}"
    asked = f" [request_id {problem.request_id}]" if problem.request_id else ""
    return f"{problem.title}: {problem.detail}{field}{asked}. `trustchain health` says what is wrong"


def _trusting_only(settings: Settings) -> ssl.SSLContext:
    root = settings.paths.root_certificate
    try:
        return ssl.create_default_context(cafile=str(root))
    except FileNotFoundError:
        raise CommandError(no_root(settings)) from None
    except PermissionError:
        raise CommandError(f"{root} cannot be read: run this as the user of the service, or as root") from None
    except ssl.SSLError as error:
        raise CommandError(f"{root} holds no certificate: {error}") from error


def no_root(settings: Settings) -> str:
    """What to tell an operator who asks for a tree that has not been started yet."""
    return (
        f"there is no root certificate at {settings.paths.root_certificate}: "
        "start the tree once with `trustchain run`, or name its data directory with --data-dir"
    )


def _administrator_token(settings: Settings) -> str:
    path = settings.paths.admin_token
    try:
        return tokens.load(path)
    except FileNotFoundError:
        raise CommandError(
            f"there is no token at {path}: it is created when the tree starts for the first time"
        ) from None
    except PermissionError:
        raise CommandError(f"{path} cannot be read: run this as the user of the service, or as root") from None
    except ConfigurationError as error:
        raise CommandError(str(error)) from error
