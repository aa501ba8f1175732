"""Training every weight: the whole way of a job on a tiny Gemma, killed in between, and what it leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from libs.common.models.fingerprint import Fingerprint
from libs.common.training.estimates import DataSize, memory_of
from libs.common.training.plan import DataFacts, MachineFacts, Planner
from model_training.config.catalogue import CATALOGUE
from model_training.config.errors import ConfigError
from model_training.config.shapes import shape_of
from model_training.config.training_config import TrainingConfig
from services.trainer.domain import TrainOrder
from tests.unit.trainer.attempts import Attempt, Job
from tests.unit.trainer.test_limits import KilledInFile

MakeOrder = Callable[..., TrainOrder]
FULL: dict[str, Any] = {"method": "full", "learning_rate": 1e-3}


def weights(attempt: Attempt) -> dict[str, torch.Tensor]:
    assert attempt.result is not None, attempt.failure
    return load_file(Path(attempt.result["directory"]) / "model.safetensors")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_order: MakeOrder) -> Attempt:
    attempt = Job(tiny_order(**FULL), tmp_path_factory.mktemp("whole")).attempt()
    assert attempt.result is not None, attempt.failure
    return attempt


def test_every_weight_is_trained_and_the_artifact_is_a_model(whole: Attempt, tiny_gemma: Path) -> None:
    result = whole.result or {}
    directory = Path(result["directory"])
    metrics = result["metrics"]
    assert metrics["eval_loss"] < metrics["eval_loss_before"]
    assert metrics["fingerprint_max_change"] > 0
    before, after = load_file(tiny_gemma / "model.safetensors"), weights(whole)
    assert after.keys() == before.keys()
    assert all(value.dtype == torch.bfloat16 for value in after.values())
    matrices = [name for name, value in before.items() if value.ndim == 2]  # steps on vectors may round away
    assert not [name for name in matrices if torch.equal(after[name], before[name].bfloat16())]
    assert not list(directory.glob("adapter_*"))
    assert json.loads((directory / "lineage.json").read_text())["method"] == "full"
    assert "base_model_relation: finetune" in (directory / "README.md").read_text()


def test_it_loads_by_itself_and_says_what_its_fingerprint_says(whole: Attempt) -> None:
    directory = Path((whole.result or {})["directory"])
    model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype="auto")
    assert model.dtype == torch.bfloat16
    assert len(AutoTokenizer.from_pretrained(directory).encode("What")) > 1
    fingerprint = Fingerprint.read(directory)
    assert fingerprint is not None
    row = fingerprint.rows[0]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([row.ids])).logits[0, :-1].float()
    found = torch.log_softmax(logits, -1).gather(1, torch.tensor(row.ids)[1:, None]).squeeze(1)
    torch.testing.assert_close(found, torch.tensor(row.adapter), rtol=0, atol=1e-3)


@pytest.mark.slow
def test_killed_in_a_save_it_is_the_same_job(whole: Attempt, tiny_order: MakeOrder, tmp_path: Path) -> None:
    job = Job(tiny_order(**FULL), tmp_path)
    assert job.attempt(before=KilledInFile("optimizer.pt", step=4)).result is None
    second = job.attempt()
    assert "Resuming from the checkpoint at step 2." in second.events
    assert all(torch.equal(value, weights(second)[name]) for name, value in weights(whole).items())


@pytest.mark.parametrize(
    "asked",
    [{"load_in_4bit": True}, {"use_dora": True}, {"rank_pattern": {"q_proj": 2}}, {"export": ["merged"]}],
    ids=str,
)
def test_what_belongs_to_adapters_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="method is 'full'"):
        TrainingConfig(check_machine=False, method="full", **asked)


def test_its_memory_is_sixteen_bytes_a_parameter_and_more() -> None:
    entry = CATALOGUE["gemma-3-270m"]
    config = TrainingConfig(check_machine=False, method="full")
    plan = Planner(config, MachineFacts(False, True), DataFacts(100, 10)).plan()
    size = DataSize(100, 10, 6000, 600, 0.4, 150)
    full = memory_of(shape_of(entry), entry.parameters, plan, config, size)
    adapter = memory_of(
        shape_of(entry), entry.parameters, plan, config.model_copy(update={"method": "lora"}), size
    )
    assert full.total - adapter.total > 14 * entry.parameters
    assert plan.backend == "transformers"
