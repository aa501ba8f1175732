"""The Dockerfile: a target for each image of the inventory, without root, and dependencies as pyproject.toml has them."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from deploy.images.requirements import WEIGHTS, lines
from deploy.inventory import SERVICES, TASKS, traced

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "images"
TEXT = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TARGETS = ("gateway", "keeper", "migrate", "monitor", "dashboard", "comparator", "evaluator", "client",
           "inference", "rag", "trainer", "trainer-gpu", "inference-gpu")  # fmt: skip


def stages() -> dict[str, tuple[str, str]]:
    """Stage -> the stage or image it begins with, and its instructions."""
    parts = re.split(r"^FROM (\S+) AS (\S+)$", TEXT, flags=re.MULTILINE)
    return {parts[i + 1]: (parts[i], parts[i + 2]) for i in range(1, len(parts), 3)}


def inherited(name: str) -> str:
    """The instructions of a stage after those that it begins with."""
    base, own = stages()[name]
    return (inherited(base) if base in stages() else "") + own


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_as_nobody_special_and_says_what_it_is(target: str) -> None:
    text = inherited(target)
    assert re.findall(r"^USER (\S+)$", text, re.MULTILINE)[-1] == "10001:0"
    assert re.findall(r"^HEALTHCHECK (.*)$", text, re.MULTILINE)
    assert f'image.title="{target}"' in text
    for label in ("source", "licenses", "description", "version", "revision"):
        assert f"org.opencontainers.image.{label}=" in text
    assert "PYTHONDONTWRITEBYTECODE=1" in text


def test_every_image_of_the_inventory_can_be_built() -> None:
    wanted = {part.image.target for part in (*SERVICES, *TASKS)}
    assert wanted <= set(stages())
    assert {f"{name}-gpu" for name in ("inference", "trainer")} <= set(stages())


@pytest.mark.parametrize("part", SERVICES, ids=lambda part: part.name)
def test_an_image_starts_its_service_on_its_port(part: Any) -> None:
    name = part.name if part.name in stages() else part.image.target
    text = inherited(name)
    assert re.findall(r"^EXPOSE (\d+)$", text, re.MULTILINE)[-1] == str(part.port)
    assert f'"{part.module}"' in re.findall(r"^CMD (.*)$", text, re.MULTILINE)[-1]
    assert re.findall(r"\bPORT=(\d+)", text)[-1] == str(part.port)


@pytest.mark.parametrize("part", [part for part in SERVICES if traced(part)], ids=lambda part: part.name)
def test_an_image_that_is_told_of_a_collector_can_send_spans(part: Any) -> None:
    for name in {part.image.target, f"{part.image.target}-gpu"} & set(stages()):
        text = inherited(name) + (stages()["door"][1] if "--from=door" in inherited(name) else "")
        assert re.search(r"(/images/install|requirements\.py) .*\btracing\b", text), name


def test_nothing_of_this_machine_and_no_secret_is_in_the_files() -> None:
    for path in (*FOLDER.iterdir(), *(ROOT / "deploy" / "compose" / "stand-ins").iterdir()):
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        assert not re.search(
            r"(index-url|trusted-host|proxy)\s*[= ]\s*http", text.replace("$TORCH_INDEX", "")
        ), path


def test_an_extra_brings_what_pyproject_says_and_follows_others() -> None:
    gateway = lines("gateway", PROJECT)
    assert {"aiohttp>=3.13", "fastapi>=0.120", "pydantic>=2.12"} <= set(gateway)
    assert len(gateway) == len(set(gateway))
    assert not any(line.startswith("model-training") for line in gateway)


def test_the_base_models_weights_go_where_models_are_prepared() -> None:
    assert any(line.startswith(WEIGHTS) for line in lines("inference", PROJECT))
    assert not any(line.startswith(WEIGHTS) for line in lines("trainer", PROJECT))


def test_a_package_with_a_version_stands_for_itself_and_a_typo_does_not() -> None:
    assert lines("yourlib==1.2", PROJECT) == ["yourlib==1.2"]
    with pytest.raises(KeyError):
        lines("gatewya", PROJECT)


def test_a_client_image_holds_no_machine_learning() -> None:
    for name in ("gateway", "monitor", "comparator"):
        assert not {"torch", "transformers"} & {
            re.split(r"[^a-z0-9-]", line)[0] for line in lines(name, PROJECT)
        }


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed")
@pytest.mark.parametrize("path", ["deploy/images/Dockerfile", "deploy/compose/stand-ins/Dockerfile"])
def test_hadolint_finds_nothing(path: str) -> None:
    done = subprocess.run(["hadolint", path], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
