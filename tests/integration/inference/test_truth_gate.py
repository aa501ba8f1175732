"""An adapter that is served is the adapter that was trained: four that are not are refused on every engine, one is served.

vLLM by itself takes all five; `test_engine_contract` has one that matches nothing.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from safetensors.torch import load_file, save_file

from libs.common.db.engine import Database
from libs.common.db.tables import JobEventRow, JobRow, ModelRow
from libs.common.models.prepare import default_model_dir
from libs.common.models.store import ModelStore
from libs.common.testing.tiny_gemma import write_tiny_adapter, write_tiny_gemma
from tests.conftest import Stores
from tests.integration.inference.rigs import REAL_VLLM, real_vllm_settings, write_fake_vllm
from tests.integration.inference.serving import (
    BASE,
    QUESTION,
    Served,
    serving,
    wait_until,
    write_copy,
    write_fingerprint,
)

needs_vllm = pytest.mark.skipif(REAL_VLLM is None, reason="MT_TEST_VLLM names no vllm")
REAL = pytest.param(
    "vllm", marks=[pytest.mark.slow, pytest.mark.weights, pytest.mark.timeout(1800), needs_vllm]
)


@pytest.fixture(scope="module", params=["transformers", "fake-vllm", REAL])
def served(
    request: pytest.FixtureRequest,
    stores: Stores,
    database: Database,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp(request.param)
    options: dict[str, Any] = {"inference_tuned_models": 3}
    models = folder
    if request.param == "fake-vllm":
        options |= {"inference_engine": "vllm", "inference_vllm_command": write_fake_vllm(folder / "bin")}
    if request.param == "vllm":
        ModelStore(default_model_dir()).prepare(BASE)
        models = default_model_dir()
        options |= real_vllm_settings()
    with serving(stores, database, models, **options) as served:
        yield served


@pytest.fixture
def five(served: Served, tmp_path: Path) -> dict[str, Path]:
    """Adapters by what is wrong with them."""
    real = (served.base / "model.safetensors").stat().st_size > 10**8
    strength, dtype = (0.03, torch.bfloat16) if real else (0.2, torch.float32)
    good = write_fingerprint(
        write_tiny_adapter(tmp_path / "good", served.base, strength=strength), served.base, dtype=dtype
    )
    nothing = write_copy(good, tmp_path / "no-op")
    change(nothing, lambda key, tensors: tensors[key] * ("lora_B" not in key))
    shuffled = write_copy(good, tmp_path / "shuffled")
    change(shuffled, of_the_next_layer)
    stale = write_copy(good, tmp_path / "stale")  # an earlier checkpoint of the same training
    change(stale, lambda key, tensors: tensors[key] * (0.7 if "lora_B" in key else 1.0))
    hidden = json.loads((served.base / "config.json").read_text(encoding="utf-8"))["hidden_size"]
    other_base = tmp_path / "another-base"
    if real:  # the same shapes, other weights
        write_other_weights(served.base, other_base)
    else:
        write_tiny_gemma(other_base, seed=8, hidden=hidden)
    foreign = write_tiny_adapter(tmp_path / "foreign", other_base, strength=strength)
    write_fingerprint(foreign, other_base, dtype=dtype)
    return {"good": good, "no-op": nothing, "shuffled": shuffled, "stale": stale, "foreign": foreign}


def write_other_weights(base: Path, target: Path) -> None:
    write_copy(base, target)
    tensors = load_file(base / "model.safetensors")
    generator = torch.Generator().manual_seed(0)
    noisy = {
        name: (t + 0.3 * t.float().std() * torch.randn(t.shape, generator=generator)).to(t.dtype)
        if "_proj" in name
        else t
        for name, t in tensors.items()
    }
    save_file(noisy, target / "model.safetensors", metadata={"format": "pt"})


def change(adapter: Path, how: Any) -> None:
    """Rewrite every tensor of an adapter; its fingerprint stays."""
    path = adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file(
        {key: how(key, tensors).contiguous().clone() for key in tensors}, path, metadata={"format": "pt"}
    )


def of_the_next_layer(key: str, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    before, _, after = key.partition(".layers.")
    number, _, rest = after.partition(".")
    count = len({k.partition(".layers.")[2].partition(".")[0] for k in tensors})
    return tensors[f"{before}.layers.{(int(number) + 1) % count}.{rest}"]


def ask(served: Served, model: str) -> httpx.Response:
    body = {"model": model, "messages": QUESTION, "max_tokens": 8}
    return served.http("POST", "/v1/chat/completions", json=body)


def test_four_are_refused_with_the_reason_and_one_is_served(served: Served, five: dict[str, Path]) -> None:
    expected = {
        "good": None,
        "no-op": ("changes_nothing", "changes nothing when served"),
        "shuffled": ("not_the_trained_one", "is not the trained one"),
        "stale": ("not_the_trained_one", "is not the trained one"),
        "foreign": ("other_base", "trained on another base"),
    }
    gates: dict[str, Any] = {}
    for kind, wanted in expected.items():
        model = served.publish(f"model_{kind}_{served.url[-5:]}", five[kind])
        reply = ask(served, model)
        row = served.row(model)
        gates[kind] = row.gate
        if wanted is None:
            assert reply.status_code == 200, reply.text
            assert row.state == "servable"
            assert (
                reply.json()["choices"][0]["message"]["content"]
                != ask(served, BASE).json()["choices"][0]["message"]["content"]
            )
            continue
        code, words = wanted
        assert reply.status_code == 409, f"{kind} was served: {row.gate}"
        assert words in reply.json()["detail"]
        assert (row.state, (row.gate or {})["code"]) == ("refused", code)
        assert f'mt_inference_gate_total{{verdict="{code}"}}' in httpx.get(f"{served.url}/metrics").text
    print(json.dumps(gates, indent=1))  # noqa: T201 (seen with -s, and when it fails)


def test_what_no_engine_could_match_is_refused_before_it_is_loaded(
    served: Served, five: dict[str, Path], tmp_path: Path
) -> None:
    renamed = write_copy(five["good"], tmp_path / "renamed")
    path = renamed / "adapter_model.safetensors"
    tensors = {
        key.replace("model.layers", "model.text.layers"): value for key, value in load_file(path).items()
    }
    save_file(tensors, path, metadata={"format": "pt"})
    model = served.publish(f"model_renamed_{served.url[-5:]}", renamed)
    reply = ask(served, model)
    assert reply.status_code == 409
    assert "has no such linear layer" in reply.json()["detail"]
    assert (served.row(model).gate or {})["code"] == "unfit"


def test_a_refusal_is_an_event_of_the_training(served: Served, five: dict[str, Path]) -> None:
    model, job = f"model_event_{served.url[-5:]}", f"ftjob_{served.url[-5:]}"
    with served.database.session() as session:
        session.add(JobRow(id=job, project_id="proj_default", kind="train", state="succeeded", spec={}))
    served.publish(model, five["no-op"])
    with served.database.session() as session:
        session.get_one(ModelRow, model).job_id = job
    assert ask(served, model).status_code == 409
    with served.database.session() as session:
        (event,) = session.query(JobEventRow).filter_by(job_id=job, type="gate_failed")
        assert (event.level, event.data["code"]) == ("error", "changes_nothing")
        assert model in event.message


def test_after_a_restart_of_the_engine_pinned_adapters_are_checked_again_unasked(
    served: Served, five: dict[str, Path], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """One is as it was; under the other the store was changed, as by a bad restore, and nobody is answered by it."""
    if "transformers" in request.node.name:
        pytest.skip("this engine ends with the service")
    if served.engine_pid() is None:
        pytest.skip("this server was not started here")
    good = served.publish(f"model_again_{served.url[-5:]}", five["good"])
    spoilt, stored = publish_with_a_job(served, five["good"], tmp_path / "spoilt")
    for model in (good, spoilt):
        assert served.http("POST", f"/v1/adapters/{model}/pin").json()["state"] == "servable"
    before = ask(served, good)
    passed, failed = gates(served, "passed"), gates(served, "changes_nothing")
    replace_weights(stored, five["no-op"])
    kill_engine(served)
    assert (gates(served, "passed"), gates(served, "changes_nothing")) == (passed + 1, failed + 1)
    assert adapter(served, good) == {"state": "servable", "loaded": True, "pinned": True}
    assert adapter(served, spoilt) == {"state": "refused", "loaded": False, "pinned": False}
    with served.database.session() as session:
        (event,) = session.query(JobEventRow).filter_by(job_id=f"ftjob_{spoilt}", type="gate_failed")
        assert (event.level, event.data["code"]) == ("error", "changes_nothing")
    after = ask(served, good)
    assert before.status_code == after.status_code == 200, after.text
    assert after.json()["choices"] == before.json()["choices"]
    assert ask(served, spoilt).status_code == 409
    assert gates(served, "passed") == passed + 1
    for model in (good, spoilt):
        served.http("POST", f"/v1/adapters/{model}/unpin")


def publish_with_a_job(served: Served, source: Path, copy: Path) -> tuple[str, Path]:
    """The same adapter as another artifact, with the training that it is from; its id and where it lies."""
    model = f"model_spoilt_{served.url[-5:]}"
    with served.database.session() as session:
        session.add(
            JobRow(id=f"ftjob_{model}", project_id="proj_default", kind="train", state="succeeded", spec={})
        )
    (write_copy(source, copy) / "README.md").write_text("another artifact", encoding="utf-8")
    served.publish(model, copy)
    with served.database.session() as session:
        row = session.get_one(ModelRow, model)
        row.job_id = f"ftjob_{model}"
        return model, served.store.path(row.artifact)


def adapter(served: Served, model: str) -> dict[str, Any]:
    listed = served.http("GET", "/v1/adapters").json()["data"]
    row = next(row for row in listed if row["id"] == model)
    return {name: row[name] for name in ("state", "loaded", "pinned")}


def replace_weights(stored: Path, other: Path) -> None:
    """Put another adapter's weights where an immutable one lies."""
    (path,) = stored.rglob("adapter_model.safetensors")
    path.chmod(0o644)
    path.write_bytes((other / path.name).read_bytes())


def kill_engine(served: Served) -> None:
    """End vLLM's server as the kernel would for want of memory, and wait until the door serves again."""
    killed = served.engine_pid()
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: served.engine_pid() not in (None, killed))
    wait_until(lambda: httpx.get(f"{served.url}/readyz").status_code == 200, 900)


def gates(served: Served, verdict: str) -> float:
    """How many verdicts of this kind the door has counted."""
    lines = httpx.get(f"{served.url}/metrics").text.splitlines()
    found = [line for line in lines if f'gate_total{{verdict="{verdict}"}}' in line]
    return float(found[0].split()[-1]) if found else 0.0
