"""What a client sent, as typed values: bodies, parameters, media types, credentials.

Rules:
- Bytes and strings in, a typed value out or a `Problem`; no other exception leaves this file, whatever the bytes.
- A problem names what is wrong: `position` (byte offset) where text is not JSON, `field` where a value does not fit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from services.api.problems import Problem

T = TypeVar("T")

JSON: Final = "application/json"
MISFIT: Final = "bad-field"
"""The kind of the refusal of a wrong type or value, where a route has no other."""

_FIELD_PATH: Final = re.compile(r" - at `\$\.?(.*)`$")
_FIELD_NAME: Final = re.compile(r"field `(.*?)`")
_QUALITY: Final = re.compile(r"q=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)$")  # RFC 9110, section 12.4.2
# More than this is no client's list of preferences; the header size limit alone would allow thousands.
_MAX_ACCEPTED_TYPES: Final = 32


def parse_body(body: bytes, wanted: type[T], misfit: str = MISFIT) -> T:
    """A JSON body as `wanted`. Raises Problem `bad-json` with the position or `misfit` with the field."""
    try:
        return msgspec.json.decode(body, type=wanted)
    except msgspec.ValidationError as error:
        raise _misfit(str(error), misfit) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _bad_json(body, str(error)) from None


def _bad_json(body: bytes, reason: str) -> Problem:
    if not body:
        return Problem("bad-json", "the body is empty; a JSON object is expected", position=0)
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        return Problem("bad-json", f"the body is not UTF-8 at byte {error.start}", position=error.start)
    # The fast decoder tells where it stopped, not where the text went wrong; the slow one does, and only errors pay.
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        position = len(text[: error.pos].encode("utf-8"))
        return Problem("bad-json", f"the body is not JSON: {error.msg} at byte {position}", position=position)
    except RecursionError:
        return Problem("bad-json", "the body is nested too deeply")
    return Problem("bad-json", f"the body is not JSON: {printable(reason, limit=200)}")


def parse_parameters(parameters: Sequence[tuple[str, str]], wanted: type[T], misfit: str = MISFIT) -> T:
    """Path or query parameters as `wanted`. Raises Problem `misfit`, also for an unknown or a repeated name."""
    values: dict[str, str] = {}
    for name, value in parameters:
        if name in values:
            raise Problem(misfit, f"`{printable(name)}` is given more than once", field=printable(name))
        values[name] = value
    return convert_parameters(values, wanted, misfit)


def convert_parameters(values: Mapping[str, str], wanted: type[T], misfit: str = MISFIT) -> T:
    """As `parse_parameters`, for names that are known to be different."""
    try:
        converted = msgspec.convert(values, wanted, strict=False)
    except msgspec.ValidationError as error:
        raise _misfit(str(error), misfit) from None
    except UnicodeEncodeError:
        raise Problem(misfit, "a parameter holds half of a surrogate pair, which is no character") from None
    for name, text in values.items():
        # The library takes 1e3 and 1.0 for integers: one number, one spelling.
        if isinstance(number := getattr(converted, name), int) and str(number) != text:
            raise Problem(misfit, f"write {number} as decimal digits", field=name)
    return converted


def _misfit(reason: str, kind: str) -> Problem:
    named = _FIELD_PATH.search(reason) or _FIELD_NAME.search(reason)
    field = printable(named.group(1)) if named else None
    return Problem(kind, printable(_FIELD_PATH.sub("", reason), limit=200), field=field)


def printable(text: str, limit: int = 64) -> str:
    """What a client wrote, short and without control characters, to be quoted to it and written to a log."""
    shown = "".join(character if character.isprintable() else "�" for character in text[:limit])
    return shown if len(text) <= limit else shown + "…"


def media_type(content_type: str) -> str:
    """The media type without its parameters, in lower case (RFC 9110, section 8.3.1)."""
    return content_type.partition(";")[0].strip().lower()


def preferred_type(accept: str, offered: Sequence[str]) -> str:
    """Which of `offered` an Accept header prefers (RFC 9110, section 12.5.1); the first one when it does not care.

    Raises Problem `not-acceptable` if none is accepted.
    """
    if not accept.strip():
        return offered[0]
    ranges = [_media_range(part) for part in accept.split(",")[:_MAX_ACCEPTED_TYPES]]
    best = max(offered, key=lambda name: _quality_of(media_type(name), ranges))
    if _quality_of(media_type(best), ranges) <= 0:
        raise Problem("not-acceptable", f"this resource is given as {' or '.join(offered)}", field="Accept")
    return best


def _media_range(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip().lower() for piece in part.split(";"))
    qualities = [match.group(1) for match in map(_QUALITY.match, parameters) if match]
    return name, float(qualities[0]) if qualities else 1.0


def _quality_of(name: str, ranges: Sequence[tuple[str, float]]) -> float:
    """The quality of the most specific range that covers `name`."""
    for pattern in (name, name.partition("/")[0] + "/*", "*/*"):
        for covered, quality in ranges:
            if covered == pattern:
                return quality
    return 0.0


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header names gzip itself (RFC 9110, section 12.5.3); `*` does not ask for it."""
    codings = [_media_range(part) for part in accept_encoding.split(",")[:_MAX_ACCEPTED_TYPES]]
    return any(coding in ("gzip", "x-gzip") and quality > 0 for coding, quality in codings)


def bearer_token(authorization: str) -> str | None:
    """The token of an Authorization header (RFC 6750, section 2.1), or None if it holds none."""
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    return token if scheme.lower() == "bearer" and token else None
