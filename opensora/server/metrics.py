"""Numbers for Prometheus: jobs by state, the queue, seconds of stages, requests. No names, no prompts."""

import re
from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from opensora.jobs.queue import JobQueue, JobState, JobView

STAGE_SECONDS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
_GROUPS = (
    (re.compile(r"/v1/videos/[^/]+(/events|/content|/cancel)?"), r"/v1/videos/{id}\1"),
    (re.compile(r"/(v1/videos|mcp|metrics|healthz|readyz|login|logout|docs|openapi\.json)/?"), r"/\1"),
    (re.compile(r"/(files|posters)/.*"), r"/\1"),
    (re.compile(r"/gradio_api/.*"), "/gradio_api"),
    (re.compile(r"/"), "/"),
)


class Metrics:
    """What is counted.

    Args:
        queue: whose jobs.
    """

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue
        self._registry = CollectorRegistry()
        self._registry.register(_Jobs(queue))
        self._stages = Histogram(
            "opensora_stage_seconds",
            "Seconds of every stage of the clips that ended since the server was started",
            ["stage"],
            buckets=STAGE_SECONDS,
            registry=self._registry,
        )
        self.requests = Counter(
            "opensora_http_requests", "Requests", ["method", "path", "status"], registry=self._registry
        )
        self._seen = {view.id for view in queue.everybodys() if view.state.finished}

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        ended = [view for view in self._queue.everybodys() if view.state.finished]
        for view in ended:
            if view.id not in self._seen:
                for stage, seconds in view.timings.items():
                    self._stages.labels(stage).observe(seconds)
        self._seen = {view.id for view in ended}
        return generate_latest(self._registry)


class _Jobs(Collector):
    """Jobs as they are at this moment."""

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        views: list[JobView] = self._queue.everybodys()
        states = GaugeMetricFamily("opensora_jobs", "Jobs that are known, by state", labels=["state"])
        for state in JobState:
            states.add_metric([str(state)], sum(view.state is state for view in views))
        yield states
        waiting = [view.created for view in views if view.state is JobState.QUEUED]
        yield GaugeMetricFamily("opensora_queue_length", "Jobs that wait", value=len(waiting))
        yield GaugeMetricFamily(
            "opensora_worker_ready", "Whether clips can be made at present", value=self._queue.trouble() is None
        )


class CountRequests:
    """ASGI middleware that counts answers by method, kind of address and status."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count a request when its answer begins."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method: Any = scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "DELETE", "OPTIONS") else "other"

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.requests.labels(method, group(scope["path"]), str(message["status"])).inc()
            await send(message)

        await self._app(scope, receive, sending)


def group(path: str) -> str:
    """The kind of an address: few, so that strangers cannot fill the memory with new ones."""
    for pattern, name in _GROUPS:
        if pattern.fullmatch(path):
            return pattern.sub(name, path)
    return "other"
