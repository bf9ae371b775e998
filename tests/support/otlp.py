"""A collector of a test's own: takes spans as OTLP over HTTP, and tells what came."""

from __future__ import annotations

import gzip
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

PATH = "/v1/traces"


@dataclass(frozen=True)
class Seen:
    """A span as it came."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    resource: dict[str, Any]
    error: str


@dataclass
class Collector:
    """What a collector was sent.

    Attributes:
        url: Its address, to be set as ``NT_OTLP_ENDPOINT``.
        status: What it answers.
        requests: Requests so far.
        headers: Of the newest one.
        hold: Requests are answered while this is set.
    """

    url: str
    status: int = 200
    requests: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    hold: threading.Event = field(default_factory=threading.Event)
    spans: list[Seen] = field(default_factory=list)

    def by_trace(self) -> dict[str, list[Seen]]:
        """Spans of each trace."""
        found: dict[str, list[Seen]] = defaultdict(list)
        for span in [*self.spans]:
            found[span.trace_id].append(span)
        return found


def _plain(attributes: Iterable[Any]) -> dict[str, Any]:
    return {a.key: getattr(a.value, str(a.value.WhichOneof("value"))) for a in attributes}


def decoded(body: bytes) -> list[Seen]:
    """Spans of a request's body."""
    request = ExportTraceServiceRequest.FromString(body)
    found = []
    for group in request.resource_spans:
        resource = _plain(group.resource.attributes)
        for scope in group.scope_spans:
            found += [
                Seen(
                    service=str(resource.get("service.name", "")),
                    name=span.name,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    start_ns=span.start_time_unix_nano,
                    end_ns=span.end_time_unix_nano,
                    attributes=_plain(span.attributes),
                    resource=resource,
                    error=span.status.message,
                )
                for span in scope.spans
            ]
    return found


@contextmanager
def collector() -> Iterator[Collector]:
    """A collector on a free port, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            heard.requests += 1
            heard.headers = dict(self.headers.items())
            heard.hold.wait(30)
            status = heard.status if self.path == PATH else 404
            if status == 200:
                heard.spans += decoded(body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    heard = Collector(f"http://127.0.0.1:{server.server_address[1]}")
    heard.hold.set()
    serving = threading.Thread(target=server.serve_forever, name="collector", daemon=True)
    serving.start()
    try:
        yield heard
    finally:
        heard.hold.set()
        server.shutdown()
        server.server_close()
        serving.join()
