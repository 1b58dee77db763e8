"""Prometheus metrics: counts, times and the program's own names; never what was said, nor by whom."""

import ssl
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, start_http_server

from affectline.models.errors import InvalidInputError
from affectline.pipelines.timeline import Moment, Notice, Output, Suggestion, Utterance

STAGE_BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
DELAY_BUCKETS_S: Final = (0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 7.5, 10, 15, 20, 30, 60)
"""Up to beyond the longest utterance, for whose end a moment waits."""

NOTHING_CAME: Final = frozenset(
    (
        "no speech",
        "speech too short",
        "no words recognised",
        "no video",
        "no picture",
        "no sound",
        "hold",
        "mute",
        "loss",
    )
)
"""Reasons of absences for which nobody is to blame."""


class Metrics:
    """One registry per server. All methods may be called from any thread; it is an observer.Observer too."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)

        def counter(name: str, what: str, *labels: str) -> Counter:
            return Counter(f"affectline_{name}", what, labels, registry=self.registry)

        def gauge(name: str, what: str, *labels: str) -> Gauge:
            return Gauge(f"affectline_{name}", what, labels, registry=self.registry)

        def histogram(name: str, what: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"affectline_{name}", what, labels, buckets=buckets, registry=self.registry)

        self._stage = histogram("stage_seconds", "Time a model took for one input.", STAGE_BUCKETS_S, "stage")
        self._thread_wait = histogram("thread_wait_seconds", "Time work waited for a thread.", STAGE_BUCKETS_S)
        self._waiting = gauge("work_waiting", "Pieces of work that wait for a thread.")
        self._turn_wait = histogram("turn_wait_seconds", "Time work waited for its turn.", STAGE_BUCKETS_S, "work")
        self._turns_waiting = gauge("turns_waiting", "Pieces of work that wait for their turn.")
        self._skipped = counter("skipped", "Work left out for want of time.", "work")
        self._running = gauge("calls_running", "Live calls and written conversations that run.")
        self._places = gauge("calls_max", "Live calls and written conversations that this server takes.")
        self._jobs = gauge("recording_jobs_pending", "Recording jobs that upload, wait or run.")
        self._started = counter("rpcs_started", "Calls of the API begun.", "method")
        self._handled = counter("rpcs_handled", "Calls of the API ended, with their gRPC status.", "method", "code")
        self._media = counter("media_seconds", "Media time analysed, of live calls and recordings.")
        self._work = counter("work_seconds", "Time threads spent on analysing media, by the clock.")
        self._lag = histogram(
            "call_lag_seconds", "How far a live call's analysis is behind the clock, per second.", DELAY_BUCKETS_S
        )
        self._delay = histogram(
            "moment_delay_seconds",
            "Time from the end of a second of a live call to its final moment; waits for the end of an utterance.",
            DELAY_BUCKETS_S,
        )
        self._modality = counter(
            "modality_moments", "Final moments, by what became of a modality.", "modality", "state"
        )
        self._utterances = counter("utterances", "Final utterances.")
        self._suggestions = counter("suggestions", "Suggestions made.", "kind")
        self._notices = counter("notices", "Notices on timelines: what limits them.", "code")
        self._model = gauge("model_loaded", "A model in use, named with its version.", "task", "model")
        self._ready = gauge("ready", "1 once the models are loaded.")
        gauge("build_info", "The version that runs.", "version").labels(version("affectline")).set(1)

    def serve(self, address: str) -> tuple[int, Callable[[], None]]:
        """Serves them over HTTP; gives the port, and what stops it. Raises InvalidInputError for a taken address."""
        host, _, port = address.rpartition(":")
        try:
            server, thread = start_http_server(int(port), host.strip("[]"), registry=self.registry)
        except (OSError, ssl.SSLError) as error:
            raise InvalidInputError(f"expected a free address for metrics, found {address}") from error

        def close() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return server.server_port, close

    def follow(
        self, *, running: Callable[[], int], places: int, waiting: Callable[[], int], jobs: Callable[[], int]
    ) -> None:
        """What is asked for each time that somebody looks."""
        self._running.set_function(running)
        self._places.set(places)
        self._waiting.set_function(waiting)
        self._jobs.set_function(jobs)

    def loaded(self, models: Mapping[str, str]) -> None:
        """Task -> `name@version`."""
        for task, model in models.items():
            self._model.labels(task, model).set(1)
        self._ready.set(1)

    def stage(self, stage: str, took_s: float) -> None:
        self._stage.labels(stage).observe(took_s)

    def thread_came(self, after_s: float) -> None:
        self._thread_wait.observe(after_s)

    def rpc_started(self, method: str) -> None:
        self._started.labels(method).inc()

    def rpc_handled(self, method: str, code: str) -> None:
        self._handled.labels(method, code).inc()

    def worked(self, took_s: float, media_s: float) -> None:
        self._work.inc(took_s)
        self._media.inc(media_s)

    def lagged(self, lag_s: float) -> None:
        self._lag.observe(lag_s)

    def told(self, item: Output) -> None:
        """One thing that a call had to say."""
        match item:
            case Moment(final=True):
                for contributor in item.contributors:
                    self._modality.labels(contributor.modality, "present").inc()
                for absence in item.absent:
                    self._modality.labels(absence.modality, _state(absence.reason)).inc()
            case Utterance(final=True):
                self._utterances.inc()
            case Suggestion(revision=0):
                self._suggestions.labels(item.kind).inc()
            case Notice():
                self._notices.labels(item.code).inc()

    def delayed(self, seconds: float) -> None:
        self._delay.observe(seconds)

    def skipped(self, work: str, count: int = 1) -> None:
        self._skipped.labels(work).inc(count)

    def waited(self, work: str, seconds: float, left: int) -> None:
        self._turn_wait.labels(work).observe(seconds)
        self._turns_waiting.set(left)


def _state(reason: str) -> str:
    """Of an absence: `withheld` (not allowed), `no_input` (nothing came) or `unfit` (it came and could not be used)."""
    if reason.startswith("consent ") or reason.endswith(" is not analysed"):
        return "withheld"
    return "no_input" if reason in NOTHING_CAME else "unfit"
