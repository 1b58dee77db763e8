"""OpenTelemetry traces over OTLP (extra `telemetry`): a span per RPC, and one for each thing a model does within it.

Spans carry the program's own names, statuses and times. Nothing of what a caller sends is put on them, and errors are
not recorded on them: their messages could hold it.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from importlib.metadata import version
from typing import Any, Final

from affectline.models.errors import InvalidInputError

SILENT: Final = {"record_exception": False, "set_status_on_exception": False}


class Traces:
    """Finished spans go to a processor."""

    def __init__(self, processor: Any) -> None:
        """`processor`: an opentelemetry.sdk.trace.SpanProcessor that takes the finished spans."""
        sdk, resources = _load("opentelemetry.sdk.trace"), _load("opentelemetry.sdk.resources")
        about = {"service.name": "affectline", "service.version": version("affectline")}
        self._provider = sdk.TracerProvider(resource=resources.Resource.create(about))
        self._provider.add_span_processor(processor)
        self._api = _load("opentelemetry.trace")
        self._tracer = self._provider.get_tracer("affectline")

    @contextmanager
    def span(self, name: str) -> Iterator[Any]:
        """Nests in the one that is open on the same thread or task."""
        with self._tracer.start_as_current_span(name, **SILENT) as span:
            yield span

    def within(self, name: str) -> AbstractContextManager[Any]:
        """A span in the one that is open; none where no one is, as in a recording job, which outlives its RPC."""
        return self.span(name) if self._api.get_current_span().get_span_context().is_valid else nullcontext()

    def close(self) -> None:
        """Sends what is left."""
        self._provider.shutdown()


def exported_to(endpoint: str) -> Traces:
    """Traces to an OTLP/gRPC endpoint such as http://localhost:4317; raises InvalidInputError without the extra."""
    exporter = _load("opentelemetry.exporter.otlp.proto.grpc.trace_exporter")
    export = _load("opentelemetry.sdk.trace.export")
    target = exporter.OTLPSpanExporter(endpoint=endpoint, insecure=endpoint.startswith("http://"))
    return Traces(export.BatchSpanProcessor(target))


def _load(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise InvalidInputError(
            "expected OpenTelemetry for traces, found none: pip install 'affectline[telemetry]'"
        ) from error
