"""What Prometheus reads at /metrics: requests, latencies, tokens, load and the process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

from bloomery.infer.asks import End, Job

if TYPE_CHECKING:
    from bloomery.serve.service import Service

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
PATHS = ("/v1/completions", "/v1/chat/completions", "/v1/embeddings", "/v1/models", "/health", "/ready", "/metrics")
LOAD = {  # gauge -> what it says, and what an engine calls it
    "bloomery_requests_active": ("Requests in slots", "active"),
    "bloomery_requests_waiting": ("Requests that wait for a slot", "waiting"),
    "bloomery_slots": ("Requests that can be answered at a time", "rows"),
    "bloomery_places": ("Requests that can be in slots or wait", "places"),
}

GAUGES = {  # what an engine counts (`counts`) -> gauge, what it says
    "pages": ("bloomery_cache_pages", "Pages of the cache"),
    "pages_held": ("bloomery_cache_pages_held", "Pages that requests hold"),
    "pages_kept": ("bloomery_cache_pages_kept", "Pages that nobody holds, kept for texts that begin alike"),
    "compile_seconds": ("bloomery_compile_seconds", "What compiling steps took"),
}
COUNTERS = {
    "shared": ("bloomery_shared_tokens", "Tokens of prompts that were not read again"),
    "guessed": ("bloomery_guessed_tokens", "Tokens that were guessed ahead"),
    "stood": ("bloomery_guesses_stood", "Tokens guessed ahead that stood"),
}


class Metrics:
    """The numbers of one server; names of models and paths are the only labels, so that no client can make new ones."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        here = {"registry": self.registry}
        self.requests = Counter("bloomery_http_requests", "Requests by path and status", ["path", "status"], **here)
        self.seconds = Histogram("bloomery_http_request_seconds", "From a request to its last byte", ["path"], buckets=SECONDS, **here)
        self.first = Histogram("bloomery_first_token_seconds", "Until an answer's first token", ["model"], buckets=SECONDS, **here)
        self.between = Histogram(
            "bloomery_token_seconds", "Between the tokens of an answer, on its average", ["model"], buckets=TOKEN_SECONDS, **here
        )
        self.read = Counter("bloomery_prompt_tokens", "Tokens of prompts that were answered", ["model"], **here)
        self.written = Counter("bloomery_generated_tokens", "Tokens of answers", ["model"], **here)
        self.ends = Counter("bloomery_answers", "Answers by what ended them", ["model", "reason"], **here)
        self.connections: Callable[[], int] = lambda: 0
        ProcessCollector(**here)

    def look(self, service: Service) -> None:
        """Reads the load of a server's engines whenever it is asked."""
        self.registry.register(Load(service, self))

    def request(self, path: str, status: int, seconds: float) -> None:
        """One request is done."""
        known = next((one for one in PATHS if path == one or path.startswith(f"{one}/")), "other")
        self.requests.labels(known, str(status)).inc()
        self.seconds.labels(known).observe(seconds)

    def ended(self, model: str, job: Job, end: End, now: float) -> None:
        """One answer has ended, `now` by the clock of `time.perf_counter`."""
        self.ends.labels(model, end.reason).inc()
        if end.reason == "failed":
            return
        self.read.labels(model).inc(len(job.ask.prompt))
        self.written.labels(model).inc(len(end.ids))
        if job.first:
            self.first.labels(model).observe(job.first - job.begun)
        if len(end.ids) > 1:
            self.between.labels(model).observe((now - job.first) / (len(end.ids) - 1))

    def exposed(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)


class Load:
    """Gauges that are read from the engines when somebody looks."""

    def __init__(self, service: Service, metrics: Metrics) -> None:
        self.service, self.metrics = service, metrics

    def collect(self) -> Iterable[Metric]:
        for name, (says, source) in LOAD.items():
            gauge = GaugeMetricFamily(name, says, labels=["model"])
            for one in self.service.models.values():
                gauge.add_metric([one.name], getattr(one.engine, source))
            yield gauge
        yield from self.counted()
        yield GaugeMetricFamily("bloomery_connections", "Open connections", value=self.metrics.connections())
        yield GaugeMetricFamily("bloomery_draining", "1 while the server is about to stop", value=float(self.service.draining))
        yield GaugeMetricFamily("bloomery_alive", "1 while all engines run", value=float(self.service.alive))

    def counted(self) -> Iterable[Metric]:
        """What engines are, and what they count besides; one that does not count a thing is left out there."""
        models = list(self.service.models.values())
        info = InfoMetricFamily("bloomery_engine", "What computes", labels=["model"])
        for one in models:
            info.add_metric([one.name], {"engine": one.engine.kind, "how": one.engine.told})
        yield info
        counts = {one.name: one.engine.counts() for one in models}
        for kind, told in ((GaugeMetricFamily, GAUGES), (CounterMetricFamily, COUNTERS)):
            for source, (name, says) in told.items():
                family = kind(name, says, labels=["model"])
                for model, found in counts.items():
                    if source in found:
                        family.add_metric([model], found[source])
                yield family
