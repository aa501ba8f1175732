"""The Compose file: fresh, of one mind with the inventory, and safe by default."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.compose.build import FOLDER, compose, files
from deploy.compose.make_secrets import contents, make
from deploy.compose.wait import seconds
from deploy.inventory import PARTS, SERVICES, STORES, TASKS, traced, variables
from deploy.inventory_records import Secret

FILE = compose()
BODIES: dict[str, dict[str, Any]] = FILE["services"]
NAMED = sorted(BODIES)
TOOLS = ("client", "operator")
OURS = [part.name for part in (*SERVICES, *TASKS)]


def part_of(name: str) -> str:
    """The part of the inventory that a service of the file is; profiles have names of their own."""
    return name.removesuffix("-gpu").removesuffix("-2")


def test_the_files_are_fresh() -> None:
    for name, text in files().items():
        assert (FOLDER / name).read_text(encoding="utf-8") == text, (
            f"run `python -m deploy.compose.build` ({name})"
        )


def test_every_part_is_there_and_nothing_else() -> None:
    assert {part_of(name) for name in NAMED} == {*PARTS, *TOOLS}


@pytest.mark.parametrize("name", NAMED)
def test_nothing_runs_with_more_than_it_needs(name: str) -> None:
    body = BODIES[name]
    assert body["read_only"] is True
    assert body["cap_drop"] == ["ALL"]
    assert body["security_opt"] == ["no-new-privileges:true"]
    assert body["mem_limit"]
    assert body["pids_limit"]
    assert body["logging"]["options"]["max-size"]
    assert "privileged" not in body
    assert not any("docker.sock" in volume for volume in body.get("volumes", []))
    if name != "dcgm-exporter":  # reads the driver's counters
        assert not body["user"].startswith("0")
        assert "cap_add" not in body


def test_only_pages_and_the_api_are_open_and_on_the_loopback() -> None:
    published = {name: body["ports"] for name, body in BODIES.items() if "ports" in body}
    assert set(published) == {"proxy", "dashboard", "grafana", "jaeger"}
    assert all(port.startswith("${MT_BIND:-127.0.0.1}:") for ports in published.values() for port in ports)


def test_whoever_can_send_spans_is_told_where_and_shares_a_network_with_the_collector() -> None:
    told = {
        name for name, body in BODIES.items() if "OTEL_EXPORTER_OTLP_ENDPOINT" in body.get("environment", {})
    }
    assert {part_of(name) for name in told} == {part.name for part in SERVICES if traced(part)}
    assert all(set(BODIES[name]["networks"]) & set(BODIES["jaeger"]["networks"]) for name in told)


def test_a_network_leads_out_of_the_host_only_for_who_needs_it() -> None:
    inside = {name for name, body in FILE["networks"].items() if body.get("internal")}
    assert inside == set(FILE["networks"]) - {"edge", "outside"}
    for name, body in BODIES.items():
        leaving = set(body["networks"]) - inside
        wanted = part_of(name) in PARTS and (PARTS[part_of(name)].published or PARTS[part_of(name)].outside)
        assert bool(leaving) == bool(wanted), name


def test_who_calls_shares_a_network_and_nobody_else_reaches_a_store() -> None:
    on = {name: set(body["networks"]) for name, body in BODIES.items()}
    for name in set(NAMED) - {*TOOLS}:
        for called in PARTS[part_of(name)].calls:
            if called in BODIES and called != "dcgm-exporter":
                assert on[name] & on[called], f"{name} cannot reach {called}"
    for store in STORES:
        callers = {one for one in NAMED if part_of(one) in PARTS and store.name in PARTS[part_of(one)].calls}
        assert {one for one in NAMED if store.name in on[one]} - {"operator"} == {*callers, store.name}
        assert on[store.name] == {store.name}


def test_two_gateways_share_a_name_behind_the_proxy_and_prometheus_tells_them_apart() -> None:
    first, second = BODIES["gateway"], BODIES["gateway-2"]
    assert {key: value for key, value in first.items() if key != "networks"} == {
        key: value for key, value in second.items() if key != "networks"
    }
    assert all("gateway" in place["aliases"] for place in second["networks"].values())
    assert set(BODIES["proxy"]["networks"]) == {"edge", "front"}
    called = {name for name in NAMED if "front" in BODIES[name]["networks"]}
    assert called == {"proxy", "gateway", "gateway-2", "client"}
    (job,) = [one for one in yaml.safe_load(files()["compose/prometheus.yml"])["scrape_configs"]
              if one["job_name"] == "gateway"]  # fmt: skip
    names = {target.partition(":")[0] for target in job["static_configs"][0]["targets"]}
    assert names == {"gateway-1", "gateway-2"}
    allowed = first["environment"]["MT_ALLOWED_HOSTS"]
    assert all(f'"{name}"' in allowed for name in names)
    long_enough = int(first["environment"]["MT_DRAIN_S"]) + 10
    assert int(first["stop_grace_period"].removesuffix("s")) > long_enough


def test_what_a_gpu_changes_answers_to_the_same_name() -> None:
    for name in ("inference-gpu", "trainer-gpu", "rag-gpu"):
        body = BODIES[name]
        assert body["profiles"] == ["gpu"]
        assert all(part_of(name) in place["aliases"] for place in body["networks"].values())
        assert BODIES[part_of(name)]["profiles"] == ["cpu"]
    for name in ("inference-gpu", "trainer-gpu"):
        (device,) = BODIES[name]["deploy"]["resources"]["reservations"]["devices"]
        assert device["capabilities"] == ["gpu"]
        assert device["device_ids"]


def test_no_secret_stands_in_an_environment() -> None:
    for name, body in BODIES.items():
        text = json.dumps(body.get("environment", {})).lower()
        for secret in Secret:
            assert f'"{secret.value}"' not in text, f"{name} is told {secret.value}"


@pytest.mark.parametrize("name", [name for name in NAMED if part_of(name) in OURS])
def test_every_variable_is_one_that_the_service_reads(name: str) -> None:
    told = {variable for variable in BODIES[name]["environment"] if variable.startswith("MT_")}
    part = PARTS[part_of(name)]
    neighbours = {f"MT_{called.upper()}_URL" for called in part.calls}
    assert told - variables(part) - neighbours == set()


def test_a_start_waits_for_what_it_needs() -> None:
    gateway = BODIES["gateway"]["depends_on"]
    assert gateway["migrate"] == {"condition": "service_completed_successfully"}
    assert gateway["redis"] == {"condition": "service_healthy"}
    assert BODIES["rag-gpu"]["depends_on"]["qdrant"] == {"condition": "service_healthy"}
    for name, body in BODIES.items():
        for needed, how in body.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in BODIES[needed], f"{name} waits for {needed}, which nobody asks"


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not installed")
@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_docker_compose_accepts_the_file(profile: str, tmp_path: Path) -> None:
    make(tmp_path / "secrets")
    command = ["docker-compose", "-f", str(FOLDER / "docker-compose.yml"), "--profile", profile, "config"]
    environment = {
        "PATH": "/usr/bin:/bin:/usr/local/bin",
        "MT_SECRETS": str(tmp_path / "secrets"),
        "HOME": str(tmp_path),
    }
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert {"gateway", "postgres", {"cpu": "inference", "gpu": "inference-gpu"}[profile]} <= set(
        yaml.safe_load(done.stdout)["services"]
    )


def test_secrets_are_made_once_for_their_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    assert sorted(make(folder)) == sorted(secret.value for secret in Secret)
    assert folder.stat().st_mode & 0o777 == 0o700
    before = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    assert before["postgres_password"] in before["mt_database_url"]
    assert before["redis_password"] in before["mt_broker_url"]
    assert make(folder) == []
    (folder / "mt_key_pepper").unlink()
    assert make(folder) == ["mt_key_pepper"]
    after = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    assert {name for name in after if after[name] != before[name]} == {"mt_key_pepper"}


def test_a_password_is_not_made_beside_the_address_that_holds_another(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "mt_database_url").unlink()
    with pytest.raises(SystemExit, match="mt_database_url"):
        make(tmp_path)


def test_secrets_are_long_and_all_different() -> None:
    first, second = contents(), contents()
    assert all(len(value) >= 32 and value != second[name] for name, value in first.items())


def container(status: str, code: int = 0, health: str | None = None, policy: str = "no") -> dict[str, Any]:
    state: dict[str, Any] = {
        "Status": status,
        "ExitCode": code,
        "StartedAt": "2026-01-01T00:00:00.123456789Z",
        "FinishedAt": "2026-01-01T00:00:04.123456789Z",
    }
    if health:
        checks = [
            {"ExitCode": 1, "End": "2026-01-01T00:00:05Z"},
            {"ExitCode": 0, "End": "2026-01-01T00:00:10.123456789Z"},
        ]
        state["Health"] = {"Status": health, "Log": checks}
    return {"State": state, "HostConfig": {"RestartPolicy": {"Name": policy}}}


def test_waiting_knows_done_from_healthy_from_given_up() -> None:
    assert seconds(container("exited")) == pytest.approx(4)
    assert seconds(container("running", health="healthy")) == pytest.approx(10)
    assert seconds(container("running", health="starting")) is None
    assert seconds(container("exited", 1, policy="on-failure")) is None
    with pytest.raises(RuntimeError, match="exited with 1"):
        seconds(container("exited", 1))
