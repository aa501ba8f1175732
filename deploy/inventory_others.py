"""The inventory's stores and watchers: programs of others that the platform needs. See `inventory`."""

from __future__ import annotations

from deploy.inventory_ours import PORT_BASE, SECRETS, SERVICES
from deploy.inventory_records import Image, Kind, Mount, Part, Port, Probe, Resources, Secret

STORES = (
    Part(
        "postgres",
        Kind.STORE,
        Image(upstream="postgres:18"),
        Resources(cpu_m=500, memory_mb=512, cpu_limit_m=4000, memory_limit_mb=2048, scratch_mb=512),
        # Workers hold two connections each, the gateway's processes twelve.
        arguments=("postgres", "-c", "max_connections=200"),
        ports=(Port("postgres", 5432),),
        env={
            "POSTGRES_DB": "mt",
            "POSTGRES_USER": "mt",
            "POSTGRES_PASSWORD_FILE": f"{SECRETS}/{Secret.POSTGRES_PASSWORD}",
            "PGDATA": "/var/lib/postgresql/18/docker",
        },
        secrets=(Secret.POSTGRES_PASSWORD,),
        probe=Probe(command=("pg_isready", "-U", "mt", "-d", "mt"), start_s=120, timeout_s=5),
        # Version 18 keeps data in a folder of its version and refuses a mount at the folder that older ones had.
        mounts=(Mount("postgres", "/var/lib/postgresql"),),
        stop_s=120,
        user=999,
        writable=("/var/run/postgresql", "/dev/shm"),
    ),
    Part(
        "redis",
        Kind.STORE,
        Image(upstream="redis:8"),
        Resources(cpu_m=100, memory_mb=64, cpu_limit_m=1000, memory_limit_mb=512),
        ports=(Port("redis", 6379),),
        # Told on standard input, so that the password stands in no list of processes.
        command=(
            "sh",
            "-c",
            "exec redis-server - <<END\n"
            "dir /data\n"
            "appendonly yes\n"
            "maxmemory-policy noeviction\n"
            f"requirepass $(cat {SECRETS}/{Secret.REDIS_PASSWORD})\n"
            "END\n",
        ),
        secrets=(Secret.REDIS_PASSWORD,),
        probe=Probe(
            command=(
                "sh",
                "-c",
                f'REDISCLI_AUTH="$(cat {SECRETS}/{Secret.REDIS_PASSWORD})" redis-cli ping | grep -q PONG',
            ),
            start_s=60,
        ),
        mounts=(Mount("redis", "/data"),),
        user=999,
    ),
    Part(
        "qdrant",
        Kind.STORE,
        Image(upstream="qdrant/qdrant:v1.20.0-unprivileged"),
        Resources(cpu_m=250, memory_mb=512, cpu_limit_m=4000, memory_limit_mb=4096),
        ports=(Port("http", 6333), Port("grpc", 6334)),
        # It reads its key from a variable and from no file.
        command=(
            "bash",
            "-c",
            f'export QDRANT__SERVICE__API_KEY="$(cat {SECRETS}/{Secret.QDRANT_API_KEY})"; exec ./entrypoint.sh',
        ),
        env={"QDRANT__STORAGE__SNAPSHOTS_PATH": "/qdrant/storage/snapshots"},
        secrets=(Secret.QDRANT_API_KEY,),
        probe=Probe(alive="/livez", ready="/readyz", start_s=120),
        mounts=(Mount("qdrant", "/qdrant/storage"),),
        stop_s=60,
        user=1000,
        metrics="/metrics",
    ),
)
"""State of ours in programs of others. Each may be a managed one: then only its address is given."""

WATCHERS = (
    Part(
        "prometheus",
        Kind.WATCHER,
        Image(upstream="prom/prometheus:v3.7.3"),
        Resources(cpu_m=100, memory_mb=512, cpu_limit_m=1000, memory_limit_mb=2048),
        ports=(Port("http", 9090),),
        probe=Probe(alive="/-/healthy", ready="/-/ready", start_s=120),
        mounts=(Mount("prometheus", "/prometheus"),),
        user=65534,
        calls=(*(part.name for part in SERVICES), "qdrant", "alertmanager"),
        metrics="/metrics",
    ),
    Part(
        "alertmanager",
        Kind.WATCHER,
        Image(upstream="prom/alertmanager:v0.29.0"),
        Resources(cpu_m=50, memory_mb=64, cpu_limit_m=500, memory_limit_mb=256),
        ports=(Port("http", 9093),),
        probe=Probe(alive="/-/healthy", ready="/-/ready", start_s=60),
        outside="receivers of alerts",
        user=65534,
        metrics="/metrics",
    ),
    Part(
        "grafana",
        Kind.WATCHER,
        Image(upstream="grafana/grafana:12.3.0"),
        Resources(cpu_m=100, memory_mb=256, cpu_limit_m=1000, memory_limit_mb=512),
        ports=(Port("http", 3000),),
        env={
            "GF_SECURITY_ADMIN_PASSWORD__FILE": f"{SECRETS}/{Secret.GRAFANA_PASSWORD}",
            "GF_ANALYTICS_REPORTING_ENABLED": "false",
            "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
            "GF_USERS_ALLOW_SIGN_UP": "false",
        },
        secrets=(Secret.GRAFANA_PASSWORD,),
        probe=Probe(alive="/api/health", ready="/api/health", start_s=120),
        mounts=(Mount("grafana", "/var/lib/grafana"),),
        user=472,
        calls=("prometheus",),
        needs=("prometheus",),
        published=True,
    ),
    Part(
        "dcgm-exporter",
        Kind.WATCHER,
        Image(upstream="nvcr.io/nvidia/k8s/dcgm-exporter:4.4.2-4.7.0-ubuntu22.04"),
        Resources(cpu_m=50, memory_mb=128, cpu_limit_m=500, memory_limit_mb=512),
        ports=(Port("http", 9400),),
        probe=Probe(alive="/health", ready="/health", start_s=60),
        metrics="/metrics",
    ),
    Part(
        "jaeger",
        Kind.WATCHER,
        # Traces in memory, the newest 100,000.
        Image(upstream="jaegertracing/jaeger:2.21.0"),
        Resources(cpu_m=100, memory_mb=256, cpu_limit_m=1000, memory_limit_mb=1024),
        ports=(Port("http", 16686), Port("otlp", 4318)),
        probe=Probe(alive="/", ready="/", start_s=60),
        user=10001,
        published=True,
    ),
)
"""For compose. A cluster's own Prometheus operator and GPU operator stand in their place in deploy/k8s."""

PROXIES = (
    Part(
        "proxy",
        Kind.PROXY,
        Image(upstream="nginx:1.29-alpine"),
        Resources(cpu_m=100, memory_mb=32, cpu_limit_m=1000, memory_limit_mb=128, scratch_mb=256),
        ports=(Port("http", PORT_BASE),),
        probe=Probe(start_s=30),
        calls=("gateway",),
        needs=("gateway",),
        # As long as the gateway may take to finish what passes through here.
        stop_s=150,
        published=True,
        user=101,
    ),
)
"""For compose: two gateways behind one door, so that one can be replaced while the other answers."""
