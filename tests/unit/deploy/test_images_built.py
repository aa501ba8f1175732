"""Images that were built on this machine (`make compose-build`), run as the Compose file runs them. Skipped without them."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest

from deploy.compose.build import compose
from deploy.compose.parts import VERSION

BODIES: dict[str, dict[str, Any]] = compose()["services"]
BUILT = ("gateway", "monitor", "dashboard", "comparator", "evaluator", "inference", "rag", "trainer")


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)


def run(name: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a service's image, hardened as the service is."""
    image = f"model-training/{name}:{VERSION}"
    if shutil.which("docker") is None or docker("image", "inspect", image).returncode != 0:
        pytest.skip(f"there is no Docker here with the image {image} (make compose-build)")
    body = BODIES[name]
    options = ["--rm", "--read-only", "--init", "--network", "none", "--user", "123456:0"]
    options += [word for folder in body["tmpfs"] for word in ("--tmpfs", folder)]
    options += [word for capability in body["cap_drop"] for word in ("--cap-drop", capability)]
    options += [word for option in body["security_opt"] for word in ("--security-opt", option)]
    options += ["--pids-limit", str(body["pids_limit"]), "--memory", body["mem_limit"]]
    return docker("run", *options, image, *command)


@pytest.mark.slow
def test_the_sandbox_holds_inside_the_hardened_container() -> None:
    done = run("evaluator", "python", "-m", "services.evaluator.doctor")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["level"] in ("landlock", "namespaces"), found["text"]
    assert set(found["doors"].values()) == {"closed"}


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILT)
def test_an_image_starts_for_any_user_and_holds_no_tools_to_build_with(name: str) -> None:
    module = BODIES[name]["command"][2]
    done = run(name, "python", "-c", f"import importlib; importlib.import_module({module!r})")
    assert done.returncode == 0, done.stderr
    assert run(name, "python", "-m", "pip", "--version").returncode != 0
    assert run(name, "sh", "-c", "command -v gcc cc make g++").returncode != 0
    assert run(name, "sh", "-c", "touch /opt/venv/x /usr/x").returncode != 0


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILT)
def test_an_image_lists_what_it_holds(name: str) -> None:
    done = run(name, "cat", "/usr/share/sbom/python.cdx.json")
    assert done.returncode == 0, done.stderr
    names = {part["name"] for part in json.loads(done.stdout)["components"]}
    assert {"fastapi", "model-training", "pydantic"} <= names
