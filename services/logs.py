"""Structured logs of a worker: one event a line on standard error, which the supervisor and journald keep.

Rules: an event says what happened in words, its keys say to what. Every line carries the service, its process id and,
inside a call, the trace id. No secret is ever a value here: no key, no token, no request body.
"""

import contextvars
import logging
import os
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

import structlog

from config.schema import Log

TRACE: Final[contextvars.ContextVar[str]] = contextvars.ContextVar("trace", default="")
"""The traceparent of the call being answered in this context (W3C Trace Context), or empty."""

_LEVELS: Final[Mapping[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def configure(log: Log, service: str, index: int) -> None:
    """Set up structlog for this process. Loggers that were made before follow too."""
    identity: dict[str, object] = {"service": service, "pid": os.getpid()}
    if index:
        identity["index"] = index

    def identify(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.update(identity)
        if trace := TRACE.get():
            event["trace_id"] = trace[3:35]
        return event

    renderer: list[Any]
    if log.format == "json":
        renderer = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        # Not its default formatter, which prints the local variables of each frame: keys and tokens among them.
        plain = structlog.dev.plain_traceback
        renderer = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            identify,
            *renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[log.level]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
