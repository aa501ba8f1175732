"""The inventory is what the code is: the same services, ports, variables and calls."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from deploy import inventory
from deploy.inventory_records import Kind, Part, Secret
from deploy.prometheus.build import PORTS
from model_training.embedded.units import SERVICES

ROOT = Path(inventory.__file__).parents[1]
OURS = (*inventory.SERVICES, *inventory.TASKS)
CALLED = re.compile(r"settings\.(\w+)_url\b")
BY_URL = {"database": "postgres", "broker": "redis"}
PACKAGE = {"keeper": "services/gateway/keeper.py"}


def named(parts: tuple[Part, ...]) -> list[object]:
    return [pytest.param(part, id=part.name) for part in parts]


def test_services_are_those_of_one_machine() -> None:
    here = {part.name: (part.module, part.offset) for part in inventory.SERVICES}
    there = {spec.name: (spec.module, spec.offset) for spec in SERVICES}
    unwritten = {name for name in here.keys() - there.keys() if _is_missing(here[name][0])}
    assert {name: value for name, value in here.items() if name not in unwritten} == there


def _is_missing(module: str) -> bool:
    try:
        return find_spec(module) is None
    except ModuleNotFoundError:
        return True


def test_ports_are_base_plus_offset_and_prometheus_knows_them() -> None:
    for part in inventory.SERVICES:
        assert part.port == inventory.PORT_BASE + (part.offset or 0), part.name
    known = {part.name: part.port for part in inventory.SERVICES}
    assert known == known | PORTS


def test_no_two_parts_share_a_name_or_a_port() -> None:
    listed = (*OURS, *inventory.STORES, *inventory.WATCHERS, *inventory.PROXIES)
    assert len(inventory.PARTS) == len(listed)
    numbers = [part.port for part in inventory.SERVICES]
    assert len({*numbers}) == len(numbers)


@pytest.mark.parametrize("part", named(OURS))
def test_what_a_part_is_told_it_reads(part: Part) -> None:
    told = {*inventory.environment(part), *(secret.variable for secret in part.secrets)}
    assert told <= inventory.variables(part)


@pytest.mark.parametrize("part", named(tuple(part for part in OURS if part.settings)))
def test_every_variable_without_a_default_is_given(part: Part) -> None:
    module, _, name = part.settings.partition(":")
    fields = getattr(__import__(module, fromlist=[name]), name).model_fields
    required = {f"MT_{field}".upper() for field, info in fields.items() if info.is_required()}
    assert required <= {*inventory.environment(part), *(secret.variable for secret in part.secrets)}


@pytest.mark.parametrize("part", named(inventory.SERVICES))
def test_calls_are_those_in_the_code(part: Part) -> None:
    if _is_missing(part.module):
        pytest.skip(f"{part.module} is not written yet")
    own, *_ = part.module.rpartition(".main")
    place = ROOT / PACKAGE.get(part.name, own.replace(".", "/"))
    files = [place] if place.is_file() else [*place.rglob("*.py")]
    if part.name == "gateway":
        files = [file for file in files if file.name != "keeper.py"]
    found = {name for file in files for name in CALLED.findall(file.read_text(encoding="utf-8"))}
    ours = {one.name for one in inventory.SERVICES}
    called = {BY_URL.get(name, name) for name in found} & {*ours, "postgres", "redis", "qdrant"}
    if part.queue:
        called |= {"postgres", "redis"}  # `libs.common.jobs.worker` opens both
    if part.settings.endswith("Settings") and Secret.DATABASE_URL in part.secrets:
        called.add("postgres")
    assert {*part.calls} == called - {part.name}


@pytest.mark.parametrize("part", named((*inventory.PARTS.values(),)))
def test_everything_that_is_named_is_there(part: Part) -> None:
    volumes = {volume.name for volume in inventory.VOLUMES}
    assert {*part.calls} <= {*inventory.PARTS}
    assert {*part.needs} <= {*inventory.PARTS}
    assert {mount.volume for mount in part.mounts} <= volumes
    assert bool(part.image.target) != bool(part.image.upstream)
    assert bool(part.image.target) == (part.kind in (Kind.SERVICE, Kind.TASK))


@pytest.mark.parametrize("part", named((*inventory.PARTS.values(),)))
def test_limits_are_not_below_requests_and_probes_end(part: Part) -> None:
    wanted = part.resources
    assert 0 < wanted.cpu_m <= wanted.cpu_limit_m
    assert 0 < wanted.memory_mb <= wanted.memory_limit_mb
    assert part.replicas <= max(part.most_replicas, part.replicas)
    if part.kind is not Kind.TASK:
        assert part.probe is not None
        assert part.probe.timeout_s < part.probe.every_s


def test_needs_have_no_circle() -> None:
    done: set[str] = set()
    while left := [part for part in inventory.PARTS.values() if part.name not in done]:
        ready = {part.name for part in left if {*part.needs} <= done}
        assert ready, f"these wait for each other: {[part.name for part in left]}"
        done |= ready
