"""What stands on each dashboard: titles, queries and units. `build` makes Grafana's JSON of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Query:
    """A query, and what its lines are called: `{{label}}` is filled in by Grafana."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One diagram. `unit` is one of Grafana's; `gpu_only` panels are empty where there is no GPU."""

    title: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    gpu_only: bool = False
    vllm_only: bool = False


@dataclass(frozen=True)
class Dashboard:
    """One page."""

    uid: str
    title: str
    panels: tuple[Panel, ...]


def one(title: str, expr: str, legend: str = "", unit: str = "short", **more: object) -> Panel:
    """A panel with one query."""
    return Panel(title, (Query(expr, legend),), unit, **more)  # pyright: ignore[reportArgumentType]


def quantiles(title: str, histogram: str, by: str = "", unit: str = "s", **more: object) -> Panel:
    """Median and 95th percentile of a histogram over five minutes."""
    labels, legend = (f"le, {by}", f" {{{{{by}}}}}") if by else ("le", "")
    queries = tuple(
        Query(f"histogram_quantile({q}, sum by ({labels}) (rate({histogram}_bucket[5m])))", f"{name}{legend}")
        for q, name in ((0.5, "median"), (0.95, "95%"))
    )
    return Panel(title, queries, unit, **more)  # pyright: ignore[reportArgumentType]


OVERVIEW = Dashboard(
    "mt-overview",
    "Overview",
    (
        one("Services that answer", "mt_service_up", "{{service}}", kind="stat"),
        one(
            "Alerts that fire",
            'sum by (severity) (mt_alerts{state="firing"}) or vector(0)',
            "{{severity}}",
            kind="stat",
        ),
        one("Jobs", "sum by (state) (mt_queue_jobs)", "{{state}}", kind="stat"),
        one("Requests", "mt:http_requests:rate5m", "{{service}}", "reqps"),
        one(
            "Failed requests",
            "mt:http_errors:ratio5m or mt:http_requests:rate5m * 0",
            "{{service}}",
            "percentunit",
        ),
        quantiles("Time to the answer's start", "mt_http_request_seconds", "service"),
        one("Processor", "mt_host_cpu_ratio", "all cores", "percentunit"),
        Panel(
            "Memory",
            (Query("mt_host_memory_used_bytes", "used"), Query("mt_host_memory_size_bytes", "there is")),
            "bytes",
        ),
        Panel(
            "Disk",
            (Query("mt_host_disk_used_bytes", "used"), Query("mt_host_disk_size_bytes", "there is")),
            "bytes",
        ),
        one("Processor by service", "mt_service_cpu_cores", "{{service}}", "short", width=12),
        one("Memory by service", "mt_service_memory_bytes", "{{service}}", "bytes", width=12),
    ),
)
TRAINING = Dashboard(
    "mt-training",
    "Training",
    (
        one("Training loss", "mt_training_loss", "{{job_id}}", width=12),
        one("Validation loss", "mt_training_eval_loss", "{{job_id}}", width=12),
        one("Learning rate", "mt_training_learning_rate", "{{job_id}}"),
        one("Gradient norm", "mt_training_gradient_norm", "{{job_id}}"),
        one("Tokens a second", "mt_training_tokens_per_second", "{{job_id}}"),
        one("Progress", "mt_job_progress_ratio", "{{job_id}}", "percentunit"),
        one("Time left, 80% range", "mt_job_remaining_seconds", "{{job_id}} {{bound}}", "s"),
        one("Noticed", "mt_training_finding > 0 or mt_training_finding", "{{job_id}} {{finding}}"),
        one("Processor time used", "mt_job_cpu_seconds_total", "{{job_id}}", "s"),
        one("Most memory held", "mt_job_memory_peak_bytes", "{{job_id}}", "bytes"),
        one("Energy used on GPUs", "mt_job_energy_joules_total / 3600", "{{job_id}}", "watth"),
        one("Processor time of answers", "mt_model_cpu_seconds_total", "{{model}}", "s"),
        one("GPU time of answers", "mt_model_gpu_seconds_total", "{{model}}", "s"),
        one("Energy of answers", "mt_model_energy_joules_total / 3600", "{{model}}", "watth"),
    ),
)
GPU = Dashboard(
    "mt-gpu",
    "GPU",
    (
        one("Utilization", "mt_gpu_utilization_ratio", "GPU {{gpu}}", "percentunit", gpu_only=True),
        one(
            "Memory",
            "mt_gpu_memory_used_bytes / mt_gpu_memory_size_bytes",
            "GPU {{gpu}}",
            "percentunit",
            gpu_only=True,
        ),
        one("Temperature", "mt_gpu_temperature_celsius", "GPU {{gpu}}", "celsius", gpu_only=True),
        one("Power", "mt_gpu_power_watts", "GPU {{gpu}}", "watt", gpu_only=True),
        one(
            "Energy", "increase(mt_gpu_energy_joules_total[1h]) / 3600", "GPU {{gpu}}", "watth", gpu_only=True
        ),
        one("Clocks", "mt_gpu_clock_hertz", "GPU {{gpu}} {{clock}}", "hertz", gpu_only=True),
        one("Slowed down by", "mt_gpu_slowed", "GPU {{gpu}} {{reason}}", gpu_only=True),
        one("Critical errors (XID)", "increase(mt_gpu_xid_errors_total[1h])", "GPU {{gpu}}", gpu_only=True),
        one(
            "Uncorrected memory errors", "increase(mt_gpu_ecc_errors_total[1h])", "GPU {{gpu}}", gpu_only=True
        ),
        one("GPU time by job", "rate(mt_job_gpu_seconds_total[5m])", "{{job_id}}", width=12),
        one("Without a GPU: load", "mt_host_load / mt_host_cpu_cores", "by core", width=12),
    ),
)
INFERENCE = Dashboard(
    "mt-inference",
    "Inference",
    (
        quantiles("Time to the first text", "mt_inference_first_token_seconds", "model"),
        quantiles("Time to the last token", "mt_inference_request_seconds", "model"),
        quantiles("Wait in the queue", "mt_inference_queue_seconds", "model"),
        one("Tokens", "sum by (direction) (rate(mt_inference_tokens_total[5m]))", "{{direction}}"),
        one("Requests by their end", "sum by (reason) (rate(mt_inference_requests_total[5m]))", "{{reason}}", "reqps"),
        Panel("In the batch and waiting", (Query("mt_inference_running", "running {{model}}"),
              Query("mt_inference_waiting", "waiting {{model}}"))),
        one("Batch size", "rate(mt_inference_written_tokens_total[5m]) / rate(mt_inference_steps_total[5m])", "{{model}}"),
        one("Prompt tokens not read again", "rate(mt_inference_reused_tokens_total[5m])", "{{model}}"),
        one("Share of time in the model", "rate(mt_inference_busy_seconds_total[5m])", "{{model}}", "percentunit"),
        Panel("vLLM: requests", (Query("vllm:num_requests_running", "running"),
              Query("vllm:num_requests_waiting", "waiting")), vllm_only=True),
        one("vLLM: cache in use", "vllm:kv_cache_usage_perc", "", "percentunit", vllm_only=True),
        quantiles("vLLM: time to the first token", "vllm:time_to_first_token_seconds", vllm_only=True),
        quantiles("vLLM: time between tokens", "vllm:inter_token_latency_seconds", vllm_only=True),
        one("vLLM: prefix cache hits", "rate(vllm:prefix_cache_hits_total[5m]) / rate(vllm:prefix_cache_queries_total[5m])",
            "", "percentunit", vllm_only=True),
        one("vLLM: preemptions", "rate(vllm:num_preemptions_total[5m])", "", vllm_only=True),
    ),
)  # fmt: skip
RETRIEVAL = Dashboard(
    "mt-retrieval",
    "Retrieval",
    (
        quantiles("Time of a search", "mt_rag_search_seconds", "mode"),
        quantiles("Time of ordering again", "mt_rag_rerank_seconds"),
        one("Searches", "sum by (mode) (rate(mt_rag_search_seconds_count[5m]))", "{{mode}}", "reqps"),
        one("Searches that find nothing",
            "sum(rate(mt_rag_empty_searches_total[15m])) / sum(rate(mt_rag_search_seconds_count[15m]))", "", "percentunit"),
        one("Passages in a prompt", "rate(mt_rag_packed_passages_sum[15m]) / rate(mt_rag_packed_passages_count[15m])"),
        one("Their tokens", "rate(mt_rag_context_tokens_sum[15m]) / rate(mt_rag_context_tokens_count[15m])"),
    ),
)  # fmt: skip
QUALITY = Dashboard(
    "mt-quality",
    "Quality",
    (
        one("Canary answers moved by", "mt_canary_distance_nats", "{{model}}"),
        one("Something else answers", "mt_canary_changed", "{{model}}"),
        one(
            "Citations by what was found",
            "sum by (outcome) (rate(mt_rag_citations_total[1h]))",
            "{{outcome}}",
        ),
        one("Answers that the sources do not tell", "rate(mt_rag_not_in_sources_total[1h])"),
        one(
            "Adapters held to their fingerprint", "sum by (verdict) (mt_inference_gate_total)", "{{verdict}}"
        ),
        one("Tuned models by state", "mt_models", "{{state}}"),
        one(
            "Answers cut off or refused",
            "sum by (reason) (rate(mt_inference_requests_total[1h]))",
            "{{reason}}",
        ),
    ),
)
JOBS = Dashboard(
    "mt-jobs",
    "Jobs",
    (
        one("Queued", 'mt_queue_jobs{state="queued"}', "{{kind}}"),
        one("Running", 'mt_queue_jobs{state="running"}', "{{kind}}"),
        one("Wait of the first in line", "mt_queue_oldest_seconds", "{{kind}}", "s"),
        one("Silence of running jobs", "mt_job_silent_seconds", "{{kind}} {{job_id}}", "s"),
        one("Workers that fell silent", "mt_queue_lost_leases", "{{kind}}"),
        one(
            "Attempts by their end",
            "sum by (kind, outcome) (increase(mt_jobs_ended_total[1h]))",
            "{{kind}} {{outcome}}",
        ),
        quantiles("Length of attempts", "mt_job_attempt_seconds", "kind"),
        one(
            "Messages about alerts", "sum by (outcome) (increase(mt_notifications_total[1h]))", "{{outcome}}"
        ),
        quantiles("The monitor's own round", "mt_monitor_round_seconds"),
    ),
)
DASHBOARDS = (OVERVIEW, TRAINING, GPU, INFERENCE, RETRIEVAL, QUALITY, JOBS)
