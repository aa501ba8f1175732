"""The words of the inventory: what a part of the platform is, for whoever starts it. The parts are in `inventory`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What a part is for."""

    SERVICE = "service"
    """Ours, runs for good, has an HTTP port."""
    TASK = "task"
    """Ours, runs once and ends."""
    STORE = "store"
    """Somebody else's, keeps state; a managed one may stand in its place."""
    WATCHER = "watcher"
    """Somebody else's, reads metrics; a cluster usually has its own."""
    PROXY = "proxy"
    """Somebody else's, passes requests on to ours; a cluster's ingress stands in its place."""


class Secret(StrEnum):
    """What nobody but the named parts may know. The value is the name of the file that holds it."""

    DATABASE_URL = "mt_database_url"
    BROKER_URL = "mt_broker_url"
    INTERNAL_TOKEN = "mt_internal_token"
    KEY_PEPPER = "mt_key_pepper"
    BOOTSTRAP_API_KEY = "mt_bootstrap_api_key"
    QDRANT_API_KEY = "mt_qdrant_api_key"
    DASHBOARD_SECRET = "mt_dashboard_secret"
    POSTGRES_PASSWORD = "postgres_password"
    REDIS_PASSWORD = "redis_password"
    GRAFANA_PASSWORD = "grafana_password"

    @property
    def variable(self) -> str:
        """The same as an environment variable."""
        return self.value.upper()


@dataclass(frozen=True)
class Probe:
    """How a part says that it lives and that it can serve. Times are in seconds.

    `start_s` is the longest start that is still sound; nothing is restarted before. A `command` is run inside the container
    in place of a request to `alive` and `ready`.
    """

    alive: str = "/healthz"
    ready: str = "/readyz"
    command: tuple[str, ...] = ()
    start_s: int = 60
    every_s: int = 10
    timeout_s: int = 3
    failures: int = 3


@dataclass(frozen=True)
class Resources:
    """What a container is promised and what it may take: thousandths of a core, and MiB (2**20 bytes)."""

    cpu_m: int
    memory_mb: int
    cpu_limit_m: int
    memory_limit_mb: int
    gpus: int = 0
    scratch_mb: int = 256
    """Files outside of volumes: /tmp and logs."""


@dataclass(frozen=True)
class Mount:
    """A volume inside a container."""

    volume: str
    path: str
    read_only: bool = False
    subfolder: str = ""


@dataclass(frozen=True)
class Volume:
    """Something that outlives containers. `shared` means that several parts read and write it at once."""

    name: str
    size_gb: int
    shared: bool
    holds: str


@dataclass(frozen=True)
class Image:
    """What is run: a target of deploy/images/Dockerfile, or somebody else's image."""

    target: str = ""
    upstream: str = ""


@dataclass(frozen=True)
class Port:
    """A door. `http` ports of services also answer the probes and `/metrics`."""

    name: str
    number: int


@dataclass(frozen=True)
class Part:
    """One service, task, store or watcher.

    Attributes:
        module: started as `python -m <module>` with `arguments`; empty for images of others.
        command: of images of others, in place of their entry point; `arguments` are then its, or the entry point's.
        settings: the class (`module:Class`) whose fields are the variables that it reads; see `inventory.variables`.
        reads: variables that it reads besides.
        env: the values that differ from the defaults, the same everywhere.
        calls: parts that it opens connections to. Nobody else's are allowed.
        needs: parts that must be ready, or tasks that must be done, before it starts.
        outside: whether it may reach addresses outside of the platform, and what for.
        user: who it runs as, and the group that owns its volumes.
        writable: folders besides its volumes and /tmp that it writes to; everything else is read-only.
        threads: the variable that says how many threads it computes with. A limit on processors is not seen from inside, and
            a thread for each core of a large machine under a small limit stands still most of the time.
        stop_s: how long it may take to stop. For workers: a step of training, a checkpoint and its upload.
        queue: the kind of job that it takes; "" for none.
    """

    name: str
    kind: Kind
    image: Image
    resources: Resources
    module: str = ""
    arguments: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    offset: int | None = None
    ports: tuple[Port, ...] = ()
    settings: str = ""
    reads: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    secrets: tuple[Secret, ...] = ()
    probe: Probe | None = None
    mounts: tuple[Mount, ...] = ()
    calls: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    outside: str = ""
    published: bool = False
    stateless: bool = False
    replicas: int = 1
    most_replicas: int = 1
    stop_s: int = 30
    queue: str = ""
    metrics: str = ""
    user: int = 10001
    writable: tuple[str, ...] = ()
    threads: str = ""

    @property
    def port(self) -> int:
        """Its first door.

        Raises:
            IndexError: it has none.
        """
        return self.ports[0].number
