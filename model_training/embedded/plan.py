"""The list of processes that make the platform, with the environment that they share."""

from __future__ import annotations

import json
import os
import sys
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from pydantic import BaseModel, Field

from model_training.embedded import ports, postgres, valkey
from model_training.embedded.units import SERVICES, ServiceSpec, Unit
from model_training.errors import UserError
from model_training.home import Home

HIGHEST_PORT = 65_535


class Options(BaseModel):
    """How to run the platform; handed to the supervisor as JSON."""

    home: Path
    port_base: int = 8000
    model: str | None = Field(
        default="gemma-3-270m", description="Prepared before the services; None skips it."
    )
    migrate: bool = True
    services: tuple[ServiceSpec, ...] = SERVICES

    def url(self, service: ServiceSpec) -> str:
        """Where a service listens."""
        return f"http://{ports.HOST}:{self.port_base + service.offset}"

    @property
    def gateway_url(self) -> str:
        """The public door."""
        return f"http://{ports.HOST}:{self.port_base}"

    def check(self) -> None:
        """Refuse ports that cannot be.

        Raises:
            UserError: a port is out of range, or taken.
        """
        wanted = {service.name: self.port_base + service.offset for service in self.services}
        top = HIGHEST_PORT - max((service.offset for service in self.services), default=0)
        if not 1 <= self.port_base <= top:
            raise UserError(f"--port-base {self.port_base} must be a number between 1 and {top}.")
        ports.require_free(wanted)


def make_units(options: Options, home: Home) -> list[Unit]:
    """Everything to run, in the order in which starts are tried."""
    secrets = home.secrets()
    broker_port = ports.free_port()
    database = postgres.prepare(home)
    broker = valkey.prepare(home, broker_port, secrets.broker_password)
    shared = {
        "MT_HOME": str(home.root),
        "MT_DATABASE_URL": postgres.database_url(home),
        "MT_BROKER_URL": valkey.broker_url(broker_port, secrets.broker_password),
        "MT_INTERNAL_TOKEN": secrets.internal_token,
        "PYTHONUNBUFFERED": "1",
        # Several processes with torch share the cores; OpenMP threads that spin while they wait for each other make
        # that many times slower. A short spin costs nothing alone.
        "GOMP_SPINCOUNT": "1000",
    } | {f"MT_{spec.name.upper()}_URL": options.url(spec) for spec in SERVICES}
    gateway_only = {
        "MT_KEY_PEPPER": secrets.key_pepper,
        "MT_BOOTSTRAP_API_KEY": home.api_key(),
        "PROMETHEUS_MULTIPROC_DIR": str(_counters(home)),
    }

    units = [*_model_step(options), database, broker]
    if options.migrate:
        units.append(Unit("migrations", _python("migrations.upgrade"), needs=("postgres",), env=shared))
    names = {unit.name for unit in units}
    for spec in options.services:
        env = shared | (gateway_only if spec.name == "gateway" else {})
        needs = {*spec.needs, "valkey", "postgres", "migrations"} & names
        units.append(_service(spec, options.url(spec), tuple(needs), env))
    return units


def child_environment(unit: Unit) -> dict[str, str]:
    """Our own environment, without what another platform may have left there, and the unit's."""
    mine = {"MT_DATABASE_URL", "MT_BROKER_URL", "MT_INTERNAL_TOKEN", "MT_KEY_PEPPER", "MT_API_KEY"}
    inherited = {name: value for name, value in os.environ.items() if name not in mine}
    if "MT_MODEL_DIR" in inherited:
        inherited["MT_MODEL_DIR"] = str(Path(inherited["MT_MODEL_DIR"]).expanduser().absolute())
    return inherited | dict(unit.env)


def _counters(home: Home) -> Path:
    """Where the gateway's processes count together."""
    directory = home.root / "metrics"
    directory.mkdir(mode=0o700, exist_ok=True)
    return directory


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *arguments)


def _model_step(options: Options) -> list[Unit]:
    if options.model is None:
        return []
    command = _python("libs.common.models.prepare", options.model, "--json")
    return [Unit("model", command, env={"MT_HOME": str(options.home)}, start_timeout_s=3600.0)]


def _service(spec: ServiceSpec, url: str, needs: tuple[str, ...], env: dict[str, str]) -> Unit:
    return Unit(
        name=spec.name,
        command=_python(spec.module),
        check=lambda: _ready(url),
        needs=needs,
        env=env,
        port=int(url.rpartition(":")[2]),
    )


def _ready(url: str) -> str | None:
    # The standard library's client: asked several times a second while the machine is busy starting, it must be cheap.
    connection = HTTPConnection(url.removeprefix("http://"), timeout=2.0)
    try:
        connection.request("GET", "/readyz")
        reply = connection.getresponse()
        body = reply.read()
    except (OSError, HTTPException) as error:
        return f"no answer at {url}: {error}"
    finally:
        connection.close()
    if reply.status == HTTPStatus.OK:
        return None
    try:
        return str(json.loads(body)["reason"])
    except (ValueError, KeyError, TypeError):
        return f"/readyz answers {reply.status}"
