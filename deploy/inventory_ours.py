"""The inventory's services and tasks of ours. See `inventory`, which is what others import."""

from __future__ import annotations

from deploy.inventory_records import Image, Kind, Mount, Part, Port, Probe, Resources, Secret

PORT_BASE = 8000
USER = 10001
"""User and group inside our images; any other works too (files are readable by all, writable paths are volumes)."""

HOME = "/var/lib/model-training"
MODELS = "/var/lib/models"
SECRETS = "/run/secrets"
"""Where secrets lie as files, one a secret, each named like its variable in small letters."""

_HOME = Mount("home", HOME)
_HOME_TO_READ = Mount("home", HOME, read_only=True)
_MODELS = Mount("models", MODELS, read_only=True)

_PROCESS = {"MT_SECRETS_DIR": SECRETS, "PYTHONUNBUFFERED": "1", "HOME": "/tmp"}
_COMMON = _PROCESS | {"MT_HOME": HOME, "MT_MODEL_DIR": MODELS, "MT_BIND_HOST": "0.0.0.0"}
_THREADS = {"GOMP_SPINCOUNT": "1000"}
"""OpenMP threads that spin while they wait for each other make several processes on few cores many times slower."""
_STORES = (Secret.DATABASE_URL, Secret.BROKER_URL, Secret.INTERNAL_TOKEN)
_PLATFORM = "libs.common.settings:PlatformSettings"
_READS = ("MT_SECRETS_DIR", "MT_BIND_HOST", "PYTHONUNBUFFERED", "HOME")


def _http(offset: int) -> tuple[Port, ...]:
    return (Port("http", PORT_BASE + offset),)


SERVICES = (
    Part(
        "gateway",
        Kind.SERVICE,
        Image(target="gateway"),
        Resources(cpu_m=500, memory_mb=512, cpu_limit_m=4000, memory_limit_mb=1024, scratch_mb=1024),
        module="services.gateway.main",
        offset=0,
        ports=_http(0),
        settings="services.gateway.settings:GatewaySettings",
        reads=(*_READS, "PROMETHEUS_MULTIPROC_DIR"),
        env=_COMMON | {"PROMETHEUS_MULTIPROC_DIR": "/tmp/metrics", "MT_DRAIN_S": "120"},
        secrets=(*_STORES, Secret.KEY_PEPPER, Secret.BOOTSTRAP_API_KEY),
        probe=Probe(start_s=60),
        mounts=(_HOME,),
        calls=("postgres", "redis", "inference", "rag", "comparator", "monitor", "evaluator"),
        needs=("migrate", "redis"),
        outside="endpoints of others that users have registered (`external:<name>`)",
        published=True,
        stateless=True,
        most_replicas=6,
        # Answers that are being written have the two minutes of MT_DRAIN_S to end.
        stop_s=150,
        # Its processes count there together.
        writable=("/tmp/metrics",),
        metrics="/metrics",
    ),
    Part(
        "keeper",
        Kind.SERVICE,
        Image(target="keeper"),
        Resources(cpu_m=100, memory_mb=192, cpu_limit_m=1000, memory_limit_mb=384),
        module="services.gateway.keeper",
        offset=7,
        ports=_http(7),
        settings=_PLATFORM,
        reads=_READS,
        env=_COMMON,
        secrets=_STORES,
        probe=Probe(start_s=60),
        mounts=(_HOME_TO_READ,),
        calls=("postgres", "redis"),
        needs=("migrate", "redis"),
        stateless=True,
        # One is elected by an advisory lock, the other waits.
        replicas=2,
        most_replicas=2,
        metrics="/metrics",
    ),
    Part(
        "inference",
        Kind.SERVICE,
        Image(target="inference"),
        Resources(cpu_m=1000, memory_mb=2560, cpu_limit_m=4000, memory_limit_mb=6144, scratch_mb=1024),
        module="services.inference.main",
        offset=1,
        ports=_http(1),
        settings="services.inference.settings:InferenceSettings",
        reads=(*_READS, *_THREADS),
        env=_COMMON | _THREADS,
        secrets=_STORES,
        # Ready once the base has written a token; vLLM takes a minute on a CPU, several with a large base on a GPU.
        probe=Probe(start_s=900),
        mounts=(_HOME, _MODELS),
        calls=("postgres",),
        needs=("migrate", "prepare-model"),
        stop_s=60,
        threads="MT_INFERENCE_THREADS",
        metrics="/metrics",
    ),
    Part(
        "rag",
        Kind.SERVICE,
        Image(target="rag"),
        Resources(cpu_m=500, memory_mb=1024, cpu_limit_m=2000, memory_limit_mb=3072, scratch_mb=1024),
        module="services.rag.main",
        offset=2,
        ports=_http(2),
        settings="services.rag.settings:RagSettings",
        reads=(*_READS, *_THREADS),
        env=_COMMON | _THREADS,
        secrets=_STORES,
        probe=Probe(start_s=180),
        mounts=(_HOME, _MODELS),
        calls=("postgres", "redis", "inference", "qdrant"),
        needs=("migrate", "redis"),
        stop_s=120,
        queue="index",
        threads="MT_RAG_THREADS",
        metrics="/metrics",
    ),
    Part(
        "comparator",
        Kind.SERVICE,
        Image(target="comparator"),
        Resources(cpu_m=100, memory_mb=256, cpu_limit_m=2000, memory_limit_mb=1536),
        module="services.comparator.main",
        offset=3,
        ports=_http(3),
        settings="services.comparator.settings:ComparatorSettings",
        reads=_READS,
        env=_COMMON,
        secrets=_STORES,
        probe=Probe(start_s=60),
        mounts=(_HOME,),
        calls=("postgres", "redis", "gateway"),
        needs=("migrate", "redis"),
        stop_s=60,
        queue="compare",
        metrics="/metrics",
    ),
    Part(
        "monitor",
        Kind.SERVICE,
        Image(target="monitor"),
        Resources(cpu_m=100, memory_mb=256, cpu_limit_m=1000, memory_limit_mb=768),
        module="services.monitor.main",
        offset=4,
        ports=_http(4),
        settings="services.monitor.settings:MonitorSettings",
        reads=_READS,
        env=_COMMON,
        secrets=_STORES,
        probe=Probe(start_s=60),
        mounts=(_HOME_TO_READ,),
        calls=(
            "postgres",
            *("gateway", "inference", "rag", "comparator", "evaluator", "trainer", "keeper", "dashboard"),
        ),
        needs=("migrate",),
        outside="channels of alerts (e-mail, chat, webhooks)",
        metrics="/metrics",
    ),
    Part(
        "evaluator",
        Kind.SERVICE,
        Image(target="evaluator"),
        # Two answers at once of 256 MB each, beside the worker and an evaluation's child.
        Resources(cpu_m=500, memory_mb=768, cpu_limit_m=2000, memory_limit_mb=2048, scratch_mb=1024),
        module="services.evaluator.main",
        offset=5,
        ports=_http(5),
        settings="services.evaluator.settings:EvaluatorSettings",
        reads=_READS,
        env=_COMMON,
        secrets=_STORES,
        probe=Probe(start_s=90),
        mounts=(_HOME,),
        calls=("postgres", "redis", "gateway"),
        needs=("migrate", "redis"),
        most_replicas=8,
        stop_s=60,
        queue="evaluate",
        metrics="/metrics",
    ),
    Part(
        "trainer",
        Kind.SERVICE,
        Image(target="trainer"),
        Resources(cpu_m=2000, memory_mb=4096, cpu_limit_m=8000, memory_limit_mb=8192, scratch_mb=4096),
        module="services.trainer.main",
        offset=6,
        ports=_http(6),
        settings="services.trainer.settings:TrainerSettings",
        reads=(*_READS, *_THREADS, "OMP_NUM_THREADS"),
        env=_COMMON | _THREADS,
        secrets=_STORES,
        probe=Probe(start_s=90),
        mounts=(_HOME, _MODELS),
        calls=("postgres", "redis", "evaluator"),
        needs=("migrate", "redis", "prepare-model"),
        # A step of up to a minute, then a checkpoint: 6 GB with optimizer (rank 64 on 27B) at 20 MB/s are five minutes.
        stop_s=600,
        queue="train",
        threads="OMP_NUM_THREADS",
        metrics="/metrics",
    ),
    Part(
        "dashboard",
        Kind.SERVICE,
        Image(target="dashboard"),
        Resources(cpu_m=100, memory_mb=256, cpu_limit_m=1000, memory_limit_mb=512),
        module="services.dashboard.main",
        offset=8,
        ports=_http(8),
        settings="services.dashboard.settings:DashboardSettings",
        reads=_READS,
        # Whoever opens it brings a key of their own; it knows none.
        env=_PROCESS | {"MT_BIND_HOST": "0.0.0.0", "MT_DASHBOARD_LOGIN": "true"},
        secrets=(Secret.DASHBOARD_SECRET,),
        probe=Probe(start_s=60),
        calls=("gateway",),
        needs=("gateway",),
        published=True,
        # Who is logged in stands in its memory: a second one would not know.
        metrics="/metrics",
    ),
)
"""Ours that run for good. `model_training.embedded.units.SERVICES` is the same list on one machine (a test compares)."""

TASKS = (
    Part(
        "migrate",
        Kind.TASK,
        Image(target="migrate"),
        Resources(cpu_m=100, memory_mb=192, cpu_limit_m=1000, memory_limit_mb=512),
        module="migrations.upgrade",
        reads=("MT_DATABASE_URL", *_READS),
        env=_PROCESS,
        secrets=(Secret.DATABASE_URL,),
        calls=("postgres",),
        needs=("postgres",),
    ),
    Part(
        "prepare-model",
        Kind.TASK,
        Image(target="inference"),
        # Reading the 270M wheel's GGUF holds it in float32 for a moment.
        Resources(cpu_m=500, memory_mb=2048, cpu_limit_m=2000, memory_limit_mb=4096, scratch_mb=1024),
        module="libs.common.models.prepare",
        arguments=("gemma-3-270m",),
        reads=("MT_HOME", "MT_MODEL_DIR", "HF_TOKEN", *_READS),
        env=_PROCESS | {"MT_MODEL_DIR": MODELS},
        mounts=(Mount("models", MODELS),),
        outside="the model hub, for bases that come from there",
    ),
)
"""Ours that run once: before the services start, and again with each new version."""
