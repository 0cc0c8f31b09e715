"""The HTTP endpoints of monitoring: what MonitoringSystem knows.

Rules: read-only, so GET and HEAD only; a request's body is never read; nothing may be cached; every error is a problem
document (RFC 9457), and no exception leaves `Server`. Only who calls this host by a name of its own is answered
(monitoring.hosts says why). Connections and the size of what arrives are bounded in monitoring.connections.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Final

import msgspec
import structlog
from aiohttp import web

from monitoring.connections import MAX_LINE_BYTES
from monitoring.export import MetricsExporter, Rendered, UnknownFormatError
from monitoring.hosts import OwnNames
from monitoring.metrics import Metrics, Result, operation
from monitoring.system import MonitoringSystem

DEFAULT_HISTORY_SECONDS: Final = 600
METHODS: Final = ("GET", "HEAD")
HEADERS: Final = {"Cache-Control": "no-store", "Server": "TrustChain", "X-Content-Type-Options": "nosniff"}

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
Endpoint = Callable[[web.BaseRequest], Awaitable[web.Response]]


class Endpoints:
    """Answers requests from one MonitoringSystem; `refresh` is awaited before an evaluation that a request asks for."""

    def __init__(self, system: MonitoringSystem, exporter: MetricsExporter, refresh: Refresh) -> None:
        self._system, self._exporter, self._refresh = system, exporter, refresh

    def at(self, path: str) -> Endpoint | None:
        """Return what answers at `path`."""
        found = {
            "/": self.index,
            "/health": self.health,
            "/health/live": self.live,
            "/health/ready": self.ready,
            "/metrics": self.metrics,
            "/alerts": self.alerts,
            "/history": self.history,
            "/info": self.info,
        }.get(path)
        parent, _, name = path.rpartition("/")
        return partial(self.component, name) if found is None and parent == "/health" and name else found

    async def index(self, request: web.BaseRequest) -> web.Response:  # noqa: ARG002 - aiohttp's signature
        """List the endpoints."""
        return web.Response(text=INDEX)

    async def health(self, request: web.BaseRequest) -> web.Response:
        """The health of everything."""
        await self._refresh()
        serving = self._system.status().state.serving
        return _document(request, self._system.health(), HTTPStatus.OK if serving else HTTPStatus.SERVICE_UNAVAILABLE)

    async def live(self, request: web.BaseRequest) -> web.Response:
        """Whether this process answers; nothing else, so that nobody restarts it for another's fault."""
        return _document(request, {"alive": True})

    async def ready(self, request: web.BaseRequest) -> web.Response:
        """Whether every required worker is ready."""
        document = self._system.readiness()
        return _document(request, document, HTTPStatus.OK if document["ready"] else HTTPStatus.SERVICE_UNAVAILABLE)

    async def component(self, name: str, request: web.BaseRequest) -> web.Response:
        """The health of the component `name`."""
        await self._refresh()
        components = self._system.status().components
        if name not in components:
            return _problem(HTTPStatus.NOT_FOUND, f"there is no component {name[:40]!r}", components=list(components))
        serving = components[name].state.serving
        status = HTTPStatus.OK if serving else HTTPStatus.SERVICE_UNAVAILABLE
        return _document(request, self._system.component(name), status)

    async def metrics(self, request: web.BaseRequest) -> web.Response:
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

    async def alerts(self, request: web.BaseRequest) -> web.Response:
        """Alerts, firing and resolved."""
        return _document(request, self._system.alerts())

    async def history(self, request: web.BaseRequest) -> web.Response:
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

    async def info(self, request: web.BaseRequest) -> web.Response:
        """What runs here since when."""
        return _document(request, self._system.info())


class Server:
    """Answers every request, counts it, and says no where it has to."""

    def __init__(self, endpoints: Endpoints, metrics: Metrics, names: OwnNames) -> None:
        """`metrics` has the families `FAMILIES`."""
        self._endpoints, self._metrics, self._names = endpoints, metrics, names

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """Answer one request."""
        with self._metrics.operation(OPERATION) as timing:
            response = await self._answered(request)
            timing.result = _result(response.status)
        response.headers.update(HEADERS)
        return response

    def bad_http(self, request: web.BaseRequest) -> web.Response:  # noqa: ARG002 - nothing in it can be relied on
        """Answer what is not HTTP; the connection closes."""
        detail = f"this is not a valid HTTP/1.1 request, or its line or a header is longer than {MAX_LINE_BYTES} octets"
        with self._metrics.operation(OPERATION) as timing:
            response = _problem(HTTPStatus.BAD_REQUEST, f"{detail}; no TLS is spoken here (use http://)")
            timing.result = _result(response.status)
        response.headers.update(HEADERS)
        response.force_close()
        return response

    async def _answered(self, request: web.BaseRequest) -> web.Response:
        # Only HTTP/1.0 may leave it out (the library sees to that), and no browser speaks that.
        if "Host" in request.headers and not self._names.include(request.host):
            detail = f"{request.host[:100]!r} is no name of this host: use an IP address or one of {self._names}"
            return _problem(HTTPStatus.MISDIRECTED_REQUEST, f"{detail} (server.domain, api.names, host name)")
        endpoint = self._endpoints.at(request.path)
        if endpoint is None:
            return _problem(HTTPStatus.NOT_FOUND, f"there is nothing at {request.path[:100]!r}; / lists what there is")
        if request.method not in METHODS:
            detail = f"{request.method[:20]} is not possible: this is read-only"
            response = _problem(HTTPStatus.METHOD_NOT_ALLOWED, detail)
            response.headers["Allow"] = ", ".join(METHODS)
            return response
        try:
            return await endpoint(request)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is logged, and the requester gets an answer
            _log.error("a request failed", path=request.path[:100], exc_info=error)
            return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, "monitoring failed to answer; its log says why")


def _result(status: int) -> Result:
    # 503 is what /health has to say at times, not a failure to say it.
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return "error"
    return "rejected" if 400 <= status < 500 else "ok"


def _document(request: web.BaseRequest, document: Mapping[str, object], status: int = HTTPStatus.OK) -> web.Response:
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
