"""What images of others need on one host besides what the inventory says of them: files of ours, probes, quirks."""

from __future__ import annotations

from dataclasses import dataclass

from deploy.inventory import SECRETS
from deploy.inventory_records import Secret

_WGET = ("wget", "-q", "-O", "/dev/null")
_ASK = "exec 3<>/dev/tcp/127.0.0.1/{}; printf 'GET {} HTTP/1.0\\r\\n\\r\\n' >&3; grep -q '^HTTP/.* 200' <&3"


@dataclass(frozen=True)
class Upstream:
    """Additions to a part that is somebody else's.

    Attributes:
        variable: names another image in its place.
        command: where neither the image's own nor the inventory's does.
        probe: how it is asked from inside, with what its image holds.
        files: files of ours that it reads.
    """

    variable: str
    command: tuple[str, ...] = ()
    probe: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    secrets: tuple[Secret, ...] = ()
    group: str = ""


_QDRANT = f'export QDRANT__SERVICE__API_KEY="$(cat {SECRETS}/{Secret.QDRANT_API_KEY})"; exec ./entrypoint.sh'

UPSTREAM = {
    "postgres": Upstream("MT_POSTGRES_IMAGE", command=("postgres", "-c", "max_connections=200")),
    "redis": Upstream("MT_REDIS_IMAGE"),
    "qdrant": Upstream(
        "MT_QDRANT_IMAGE", command=("bash", "-c", _QDRANT), probe=("bash", "-c", _ASK.format(6333, "/readyz"))
    ),
    "prometheus": Upstream(
        "MT_PROMETHEUS_IMAGE",
        command=(
            "--config.file=/etc/prometheus/prometheus.yml",
            "--storage.tsdb.path=/prometheus",
            "--storage.tsdb.retention.time=15d",
        ),
        files=(
            "./compose/prometheus.yml:/etc/prometheus/prometheus.yml:ro",
            "./prometheus/rules.yml:/etc/prometheus/rules.yml:ro",
        ),
        probe=(*_WGET, "http://127.0.0.1:9090/-/ready"),
        secrets=(Secret.QDRANT_API_KEY,),
    ),
    "alertmanager": Upstream(
        "MT_ALERTMANAGER_IMAGE",
        command=(
            "--config.file=/etc/alertmanager/alertmanager.yml",
            "--storage.path=/tmp/alertmanager",
            "--cluster.listen-address=",
        ),
        files=(
            "${MT_ALERTMANAGER_CONFIG:-./compose/alertmanager.yml}:/etc/alertmanager/alertmanager.yml:ro",
        ),
        probe=(*_WGET, "http://127.0.0.1:9093/-/ready"),
    ),
    "grafana": Upstream(
        "MT_GRAFANA_IMAGE",
        files=(
            "./compose/grafana-datasource.yml:/etc/grafana/provisioning/datasources/prometheus.yaml:ro",
            "./grafana/provisioning/dashboards:/etc/grafana/provisioning/dashboards:ro",
            "./grafana/dashboards:/var/lib/grafana/dashboards:ro",
        ),
        probe=(*_WGET, "http://127.0.0.1:3000/api/health"),
        group="0",
    ),
    "proxy": Upstream(
        "MT_PROXY_IMAGE",
        command=("nginx", "-g", "daemon off;"),
        files=("./compose/nginx.conf:/etc/nginx/nginx.conf:ro",),
        probe=(*_WGET, "http://127.0.0.1:8081/"),
    ),
    "jaeger": Upstream("MT_JAEGER_IMAGE", probe=(*_WGET, "http://127.0.0.1:16686/")),
    "dcgm-exporter": Upstream("MT_DCGM_IMAGE", probe=("bash", "-c", _ASK.format(9400, "/health"))),
}
