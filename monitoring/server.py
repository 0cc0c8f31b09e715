"""The HTTP endpoints of monitoring: what MonitoringSystem knows, on sockets that the supervisor bound.

Rules: read-only, so GET and HEAD only; nothing may be cached; every error is a problem document (RFC 9457). A request's
body is never read, its line and headers are bounded by aiohttp, and connections by `MAX_CONNECTIONS` and an idle time.
"""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final

import msgspec
import structlog
from aiohttp import web

from monitoring.export import MetricsExporter, Rendered, UnknownFormatError
from monitoring.metrics import Metrics, operation
from monitoring.system import MonitoringSystem

MAX_CONNECTIONS: Final = 256
IDLE_SECONDS: Final = 15.0
MAX_BODY_BYTES: Final = 1024
MAX_HEADER_BYTES: Final = 8190
DEFAULT_HISTORY_SECONDS: Final = 600

OPERATION: Final = "trustchain_monitoring_requests"
FAMILIES: Final = operation(OPERATION, "Requests to the monitoring endpoints")

INDEX: Final = """TrustChain monitoring

/health            health of everything: 200 healthy or degraded, 503 otherwise (?pretty)
/health/live       200: this process answers
/health/ready      200 once every required worker is ready, 503 before
/health/COMPONENT  one component, for example /health/ca
/metrics           Prometheus text; OpenMetrics or JSON by Accept; ?format=json|prometheus|plaintext|csv
/alerts            alerts that fire, and the last ones that no longer do
/history           ?component=ca&seconds=600: figures over time
/info              version, uptime, host, process ids
"""

_log = structlog.stdlib.get_logger()

Refresh = Callable[[], Awaitable[None]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Endpoints:
    """Answers requests from one MonitoringSystem; `refresh` is awaited before an evaluation that a request asks for."""

    def __init__(self, system: MonitoringSystem, exporter: MetricsExporter, refresh: Refresh) -> None:
        self._system, self._exporter, self._refresh = system, exporter, refresh

    def routes(self) -> list[web.RouteDef]:
        """Every path and what answers it."""
        return [
            web.get("/", self.index),
            web.get("/health", self.health),
            web.get("/health/live", self.live),
            web.get("/health/ready", self.ready),
            web.get("/health/{component}", self.component),
            web.get("/metrics", self.metrics),
            web.get("/alerts", self.alerts),
            web.get("/history", self.history),
            web.get("/info", self.info),
        ]

    async def index(self, request: web.Request) -> web.Response:  # noqa: ARG002 - aiohttp's signature
        """List the endpoints."""
        return web.Response(text=INDEX)

    async def health(self, request: web.Request) -> web.Response:
        """The health of everything."""
        await self._refresh()
        serving = self._system.status().state.serving
        return _document(request, self._system.health(), HTTPStatus.OK if serving else HTTPStatus.SERVICE_UNAVAILABLE)

    async def live(self, request: web.Request) -> web.Response:
        """Whether this process answers; nothing else, so that nobody restarts it for another's fault."""
        return _document(request, {"alive": True})

    async def ready(self, request: web.Request) -> web.Response:
        """Whether every required worker is ready."""
        document = self._system.readiness()
        return _document(request, document, HTTPStatus.OK if document["ready"] else HTTPStatus.SERVICE_UNAVAILABLE)

    async def component(self, request: web.Request) -> web.Response:
        """The health of one component."""
        await self._refresh()
        name, components = request.match_info["component"], self._system.status().components
        if name not in components:
            return _problem(HTTPStatus.NOT_FOUND, f"there is no component {name[:40]!r}", components=list(components))
        serving = components[name].state.serving
        status = HTTPStatus.OK if serving else HTTPStatus.SERVICE_UNAVAILABLE
        return _document(request, self._system.component(name), status)

    async def metrics(self, request: web.Request) -> web.Response:
        """All metrics in the format asked for."""
        await self._refresh()
        exposition = self._system.exposition()
        asked = request.query.get("format")
        try:
            if asked is not None:
                return _rendered(self._exporter.export(exposition, asked or "?"))
        except UnknownFormatError as error:
            return _problem(HTTPStatus.BAD_REQUEST, str(error), formats=list(self._exporter.formats))
        return _rendered(self._exporter.negotiated(exposition, ",".join(request.headers.getall("Accept", []))))

    async def alerts(self, request: web.Request) -> web.Response:
        """Alerts, firing and resolved."""
        return _document(request, self._system.alerts())

    async def history(self, request: web.Request) -> web.Response:
        """Figures of one component over time."""
        component = request.query.get("component", "overall")
        text = request.query.get("seconds", str(DEFAULT_HISTORY_SECONDS))
        if not (text.isascii() and text.isdigit() and 0 < len(text) <= 9 and int(text)):
            return _problem(HTTPStatus.BAD_REQUEST, f"seconds is {text[:40]!r}: use a whole number above 0")
        try:
            return _document(request, self._system.history(component, int(text)))
        except KeyError:
            recorded = list(self._system.recorded)
            return _problem(HTTPStatus.NOT_FOUND, f"no history of {component[:40]!r}", components=recorded)

    async def info(self, request: web.Request) -> web.Response:
        """What runs here since when."""
        return _document(request, self._system.info())


def application(endpoints: Endpoints, metrics: Metrics) -> web.Application:
    """Return the application; `metrics` has the families `FAMILIES`."""

    @web.middleware
    async def measured(request: web.Request, handler: Handler) -> web.StreamResponse:
        with metrics.operation(OPERATION) as timing:
            response = await _answered(request, handler)
            # 503 is what /health has to say at times, not a failure to say it.
            if response.status == HTTPStatus.INTERNAL_SERVER_ERROR:
                timing.result = "error"
            elif 400 <= response.status < 500:
                timing.result = "rejected"
        response.headers["Cache-Control"] = "no-store"
        response.headers["Server"] = "TrustChain"
        return response

    app = web.Application(middlewares=[measured], client_max_size=MAX_BODY_BYTES)
    app.add_routes(endpoints.routes())
    return app


def runner(app: web.Application, shutdown_timeout: float) -> web.AppRunner:
    """Return a runner with every limit set; signals and logs stay the caller's."""
    return web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        keepalive_timeout=IDLE_SECONDS,
        lingering_time=1.0,
        max_field_size=MAX_HEADER_BYTES,
        max_line_size=MAX_HEADER_BYTES,
        shutdown_timeout=shutdown_timeout,
    )


def limit_connections(server: web.Server | None) -> None:
    """Close the oldest connections beyond `MAX_CONNECTIONS`."""
    for connection in (server.connections if server else [])[:-MAX_CONNECTIONS]:
        connection.force_close()


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as error:
        response = _problem(HTTPStatus.METHOD_NOT_ALLOWED, f"{request.method[:20]} is not possible: this is read-only")
        response.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
        return response
    except web.HTTPException as error:
        return _problem(HTTPStatus(error.status), f"{error.reason}: {request.path[:100]!r}; / lists what there is")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is logged, and the requester gets an answer
        _log.error("a request failed", path=request.path[:100], exc_info=error)
        return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, "monitoring failed to answer; its log says why")


def _document(request: web.Request, document: Mapping[str, object], status: int = HTTPStatus.OK) -> web.Response:
    text = msgspec.json.encode(document)
    if "pretty" in request.query:
        text = msgspec.json.format(text, indent=2)
    return web.Response(body=text + b"\n", status=status, content_type="application/json")


def _rendered(rendered: Rendered) -> web.Response:
    return web.Response(body=rendered.body, headers={"Content-Type": rendered.content_type, "Vary": "Accept"})


def _problem(status: HTTPStatus, detail: str, **more: object) -> web.Response:
    document = {"type": "about:blank", "title": status.phrase, "status": int(status), "detail": detail, **more}
    body = msgspec.json.encode(document) + b"\n"
    return web.Response(body=body, status=status, content_type="application/problem+json")
