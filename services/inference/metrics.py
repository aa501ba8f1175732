"""What the inference service counts. The label `model` is a base or a tuned model in memory, so it is as bounded as that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import REGISTRY, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector, CollectorRegistry

from services.inference.ports import Engine, State

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300)
REQUEST_SECONDS = Histogram(
    "mt_inference_request_seconds",
    "From the request's arrival to its last token.",
    ["model"],
    buckets=_SECONDS,
)
FIRST_TOKEN_SECONDS = Histogram(
    "mt_inference_first_token_seconds",
    "From the request's arrival to its first text.",
    ["model"],
    buckets=_SECONDS,
)
QUEUE_SECONDS = Histogram(
    "mt_inference_queue_seconds",
    "From the request's arrival in the engine to the reading of its prompt.",
    ["model"],
    buckets=(0.005, *_SECONDS),
)
TOKENS = Counter("mt_inference_tokens_total", "Tokens read and written.", ["model", "direction"])
FINISHED = Counter("mt_inference_requests_total", "Requests by how they ended.", ["model", "reason"])
GATE = Counter(
    "mt_inference_gate_total", "Adapters that were held to their fingerprint, by verdict.", ["verdict"]
)
_OF_A_MODEL = (REQUEST_SECONDS, FIRST_TOKEN_SECONDS, QUEUE_SECONDS, TOKENS, FINISHED)


def forget_model(name: str) -> None:
    """Drop the series of a model that left memory."""
    for metric in _OF_A_MODEL:
        metric.remove_by_labels({"model": name})


class EngineCollector(Collector):
    """Reads the engine when it is scraped, so that a model that left memory leaves the metrics too.

    vLLM listens on the loopback alone, so its own metrics (`vllm:…`) are passed on here, those of its process are not:
    they would stand beside ours under the same names.
    """

    def __init__(self, engine: Engine, registry: CollectorRegistry = REGISTRY) -> None:
        self._engine = engine
        self._registry = registry
        registry.register(self)

    def close(self) -> None:
        """Stop being scraped."""
        self._registry.unregister(self)

    def describe(self) -> Iterable[Metric]:
        """The families without vLLM's, so that being registered asks it nothing."""
        return _families({})

    def collect(self) -> Iterable[Metric]:
        """The families, one sample a model in memory."""
        yield from _families(self._engine.states())
        for family in text_string_to_metric_families(self._engine.metrics()):
            if family.name.startswith("vllm:"):
                yield family


def _families(states: Mapping[str, State]) -> Iterable[Metric]:
    running = GaugeMetricFamily("mt_inference_running", "Requests in the batch.", labels=["model"])
    waiting = GaugeMetricFamily("mt_inference_waiting", "Requests in the queue.", labels=["model"])
    steps = CounterMetricFamily(
        "mt_inference_steps", "Token steps; tokens by steps is the batch.", labels=["model"]
    )
    written = CounterMetricFamily("mt_inference_written_tokens", "Tokens written.", labels=["model"])
    reused = CounterMetricFamily(
        "mt_inference_reused_tokens", "Prompt tokens not read again.", labels=["model"]
    )
    busy = CounterMetricFamily("mt_inference_busy_seconds", "Time in the model.", labels=["model"])
    for name, state in states.items():
        counters = state.counters
        running.add_metric([name], state.running)
        waiting.add_metric([name], state.waiting)
        steps.add_metric([name], counters.steps)
        written.add_metric([name], counters.completion_tokens)
        reused.add_metric([name], counters.reused_tokens)
        busy.add_metric([name], counters.busy_s)
    return running, waiting, steps, written, reused, busy
