"""Whole training runs on a tiny Gemma: equivalences, resume, proofs, and what comes out."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from libs.common.errors import JobFailure, JobStopped
from libs.common.models.fingerprint import Fingerprint
from libs.common.models.prompting import load_template
from libs.common.training.plan import DataFacts, MachineFacts, Plan, Planner
from model_training.config.training_config import TrainingConfig
from model_training.datasets.rows import parse_row
from services.trainer.domain import TrainOrder
from services.trainer.recipe import run
from services.trainer.recipe.backends import prepare
from services.trainer.recipe.base import load_tokenizer
from services.trainer.recipe.encode import EncodedRows, encode_rows
from services.trainer.recipe.proofs import Proofs
from services.trainer.recipe.trainer import AnswerTrainer

MakeOrder = Callable[..., TrainOrder]


def adapter_of(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "adapter_model.safetensors")


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor], tolerance: float) -> None:
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(
            left[name], right[name], rtol=0, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.fixture(scope="module")
def trained(
    tiny_gemma: Path, tmp_path_factory: pytest.TempPathFactory, make_context: Any, tiny_order: MakeOrder
) -> tuple[dict[str, Any], Any]:
    """One uninterrupted job."""
    context = make_context(tmp_path_factory.mktemp("whole"))
    return run.train(context, tiny_order(epochs=2)), context


def test_a_job_reports_its_way_and_leaves_a_whole_artifact(trained: tuple[dict[str, Any], Any]) -> None:
    result, context = trained
    metrics = result["metrics"]
    assert metrics["eval_loss"] < metrics["eval_loss_before"]
    assert metrics["train_loss"] < context.points[1]["loss"]
    assert metrics["supervised_tokens"] > 0
    assert metrics["peak_memory_bytes"] > 1e8
    assert result["steps"] == max(context.points) == 14
    assert not result["early_stopped"]
    assert context.points[3]["memory_bytes"] > 1e8  # the live chart shows it
    assert {"loss", "learning_rate", "grad_norm", "tokens_per_s", "supervised_tokens"} <= context.points[
        3
    ].keys()
    assert {"loss", "eval_loss"} <= context.points[4].keys()
    assert context.progresses[5][3] is not None  # time left
    directory = Path(result["directory"])
    assert {path.name for path in directory.iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "data.json", "fingerprint.json", "history.json",
        "lineage.json", "curves.png", "curves.svg", "metrics.json", "README.md", "training_config.json",
    }  # fmt: skip
    adapter = json.loads((directory / "adapter_config.json").read_text(encoding="utf-8"))
    assert adapter["base_model_name_or_path"] == "gemma-3-270m"
    assert "Gemma Terms of Use" in (directory / "README.md").read_text(encoding="utf-8")
    assert not list(directory.rglob("*.bin")) + list(directory.rglob("*.pt"))


def test_the_best_checkpoint_is_the_one_that_is_kept(trained: tuple[dict[str, Any], Any]) -> None:
    result, context = trained
    losses = {step: point["eval_loss"] for step, point in context.points.items() if "eval_loss" in point}
    best = min(losses, key=lambda step: (losses[step], step))
    assert result["best_step"] == best
    assert result["metrics"]["eval_loss"] == losses[best]
    kept = [data for name, data in context.outputs if name == "checkpoint" and data["step"] == best]
    assert_same(adapter_of(Path(kept[0]["path"])), adapter_of(Path(result["directory"])), 0.0)


def test_the_server_can_read_the_fingerprint(trained: tuple[dict[str, Any], Any]) -> None:
    result, _ = trained
    stored = Fingerprint.read(Path(result["directory"]))
    assert stored is not None
    assert len(stored.rows) == 8
    moved = [abs(a - b) for row in stored.rows for a, b in zip(row.adapter, row.base, strict=True)]
    assert sum(moved) / len(moved) == pytest.approx(result["metrics"]["fingerprint_mean_change"])


def test_a_cancelled_job_stops_at_the_next_step(
    make_context: Any, tiny_order: MakeOrder, tmp_path: Path
) -> None:
    context = make_context(tmp_path, stop_from=1, stop="cancel")
    with pytest.raises(JobStopped):
        run.train(context, tiny_order())
    assert not context.points
    assert not (tmp_path / "artifact").exists()


def test_it_stops_early_when_validation_gets_worse(
    make_context: Any, tiny_order: MakeOrder, tmp_path: Path
) -> None:
    order = tiny_order(epochs=8, eval_steps=1, learning_rate=0.3, early_stopping_patience=2)
    result = run.train(make_context(tmp_path), order)
    assert result["early_stopped"]
    assert result["steps"] == result["best_step"] + 2


class Bench:
    """Builds trainers directly, below the planner."""

    def __init__(self, path: Path, rows: list[dict[str, Any]]) -> None:
        self.path = path
        self.tokenizer = load_tokenizer(path)
        self.config = TrainingConfig(
            check_machine=False,
            warmup_ratio=0,
            learning_rate=5e-3,
            lora_r=4,
            bf16=False,
            fp16=False,
        )
        parsed = [parse_row(row) for row in rows]
        self.encoded: EncodedRows = encode_rows(parsed, self.tokenizer, load_template("qa"), self.config)

    def plan(self, **changes: Any) -> Plan:
        facts = DataFacts(len(self.encoded.examples), 0)
        made = Planner(self.config, MachineFacts(cuda=False, fast_bf16=False), facts).plan()
        return replace(made, **changes)

    def trainer(self, output: Path, plan: Plan, *callbacks: Any) -> AnswerTrainer:
        torch.manual_seed(0)
        return AnswerTrainer(
            prepare(self.path, plan, self.config), self.tokenizer, self.encoded.examples,
            config=self.config, plan=plan, output_dir=output, callbacks=callbacks,
        )  # fmt: skip


@pytest.fixture(scope="module")
def bench(tiny_gemma: Path, tiny_rows: list[dict[str, Any]]) -> Bench:
    return Bench(tiny_gemma, tiny_rows)


@pytest.mark.parametrize(
    "divided",
    [
        {"batch_size": 1, "gradient_accumulation": 4},
        {"batch_size": 4, "gradient_accumulation": 1, "pass_tokens": 50},
    ],
)
def test_a_divided_step_equals_a_whole_one(bench: Bench, tmp_path: Path, divided: dict[str, int]) -> None:
    """Rows differ in answer length, so averaging the means of the parts would not pass."""
    results: list[AnswerTrainer] = []
    for name, sizes in (("divided", divided), ("whole", {"batch_size": 4})):
        plan = bench.plan(**sizes, steps=3, eval_steps=3, save_steps=3, patience=0)
        results.append(bench.trainer(tmp_path / name, plan))
        results[-1].train()
    for name in ("loss", "grad_norm"):
        values = [[line[name] for line in t.state.log_history if name in line] for t in results]
        assert values[0] == pytest.approx(values[1], rel=2e-5), name
    # Adam divides by the size of a gradient, so rounding shows where a gradient is almost 0; steps here are 5e-3 long.
    left, right = (adapter_of(tmp_path / name / "checkpoint-3") for name in ("divided", "whole"))
    assert_same(left, right, 2e-4)
    assert results[0].counters.supervised_tokens == results[1].counters.supervised_tokens


def test_padding_changes_no_loss(bench: Bench, tmp_path: Path) -> None:
    """A row alone and the same row beside a longer one; the tiny model's sliding window is shorter than the rows."""
    model = AutoModelForCausalLM.from_pretrained(bench.path, dtype=torch.float32, attn_implementation="sdpa")
    trainer = bench.trainer(tmp_path, bench.plan(patience=0))
    rows = [{"input_ids": e.ids, "labels": e.labels, "row": 0} for e in bench.encoded.examples]
    short, long = min(rows, key=lambda r: len(r["input_ids"])), max(rows, key=lambda r: len(r["input_ids"]))
    alone = model(input_ids=torch.tensor([short["input_ids"]]), labels=torch.tensor([short["labels"]])).loss
    masked = {**long, "labels": [-100] * len(long["labels"])}
    batch = trainer.data_collator([short, masked])
    del batch["rows"]
    padded = trainer.model(**batch).loss
    torch.testing.assert_close(padded, alone, rtol=1e-5, atol=1e-5)


def test_a_frozen_adapter_is_noticed(bench: Bench, tmp_path: Path) -> None:
    plan = bench.plan(steps=2, eval_steps=2, save_steps=2, patience=0)
    trainer = bench.trainer(tmp_path, plan, Proofs())
    for name, parameter in trainer.model.named_parameters():
        parameter.requires_grad_("embed" in name and False)
    trainer.optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1)
    with pytest.raises(JobFailure) as failure:
        trainer.train()
    assert failure.value.error.code == "nothing_trainable"


def test_a_gradient_that_never_arrives_is_noticed(bench: Bench, tmp_path: Path) -> None:
    plan = bench.plan(steps=2, eval_steps=2, save_steps=2, patience=0)
    trainer = bench.trainer(tmp_path, plan, Proofs())
    for name, parameter in trainer.model.named_parameters():
        if "lora_A" in name:
            parameter.data.zero_()  # with both factors zero, neither gets a gradient
    with pytest.raises(JobFailure) as failure:
        trainer.train()
    assert failure.value.error.code == "no_gradient"


def test_an_adapter_that_does_not_move_is_noticed(
    make_context: Any, tiny_order: MakeOrder, tmp_path: Path
) -> None:
    order = tiny_order(learning_rate=1e-30)
    with pytest.raises(JobFailure) as failure:
        run.train(make_context(tmp_path), order)
    assert failure.value.error.code == "nothing_moved"
    assert not (tmp_path / "artifact").exists()


def test_a_loss_that_is_no_number_ends_the_job(bench: Bench, tmp_path: Path) -> None:
    plan = bench.plan(steps=2, eval_steps=2, save_steps=2, patience=0)
    trainer = bench.trainer(tmp_path, plan, Proofs())
    next(p for p in trainer.model.parameters() if p.requires_grad).data.fill_(math.nan)
    with pytest.raises(JobFailure) as failure:
        trainer.train()
    assert failure.value.error.code == "diverged"


def test_settings_that_break_a_rule_are_the_users(
    make_context: Any, tiny_order: MakeOrder, tmp_path: Path
) -> None:
    with pytest.raises(JobFailure, match="learning_rate") as failure:
        run.train(make_context(tmp_path), tiny_order(learning_rate=-1))
    assert failure.value.error.blame == "user"


def test_a_broken_base_says_where(make_context: Any, tiny_order: MakeOrder, tmp_path: Path) -> None:
    broken = tmp_path / "model"
    broken.mkdir()
    order = replace(tiny_order(), model_path=str(broken))
    with pytest.raises(JobFailure, match=str(broken)) as failure:
        run.train(make_context(tmp_path / "work"), order)
    assert failure.value.error.code == "model_unreadable"


def test_exports_lie_in_the_artifact(tiny_order: MakeOrder, make_context: Any, tmp_path: Path) -> None:
    context = make_context(tmp_path)
    result = run.train(context, tiny_order(max_steps=2, export=["merged", "gguf"]))
    directory = Path(result["directory"])
    assert (directory / "merged" / "model.safetensors").is_file()
    assert list((directory / "gguf").glob("*-bf16.gguf"))
    assert "`merged/`" in (directory / "README.md").read_text(encoding="utf-8")
    assert [kind for kind, _ in context.events].count("export") == 2
