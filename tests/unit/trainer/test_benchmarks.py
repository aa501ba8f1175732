"""The benchmarks of training: what they conclude from figures, and that the one for GPUs runs where there is none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.convergence import shuffled
from benchmarks.training_cpu import verdict
from benchmarks.training_gpu import summary
from benchmarks.training_gpu_arms import make_rows
from tests.conftest import ROOT


def test_ours_is_compared_with_the_better_peer_and_losses_of_as_many_steps() -> None:
    def arm(rate: int, memory: float, loss: float, steps: int) -> dict[str, float]:
        return {
            "tokens_per_processor_s": rate,
            "peak_memory_gb": memory,
            "held_out_loss": loss,
            "steps": steps,
        }

    arms = {
        "ours": arm(300, 3.0, 1.01, 12),
        "trl": arm(100, 4.0, 1.0, 12),
        "llamafactory": arm(50, 3.5, 0.5, 4),
    }
    found = verdict(arms)["ours"]
    assert (found["speed"], found["memory"], found["loss"]) == (3.0, 0.86, 0.01)


def test_medians_of_whole_repeats_and_a_failure_that_is_named() -> None:
    def run(arm: str, rate: float) -> dict[str, object]:
        return {
            "shape": "1b",
            "method": "lora",
            "arm": arm,
            "supervised_tokens_per_s": rate,
            "useful_tflops": rate / 10,
        }

    runs = [run("ours", rate) for rate in (90.0, 300.0, 100.0)] + [run("trl", 50.0)]
    runs.append({"shape": "1b", "method": "lora", "arm": "unsloth", "failed": "out of memory"})
    ours, trl, unsloth = summary(runs, 100.0)
    assert (ours["supervised_tokens_per_s"], ours["share_of_matrix_rate"]) == (100.0, 0.1)
    assert ours["times"] == {"trl": 2.0}
    assert "times" not in trl
    assert unsloth["failed"] == "out of memory"


def test_no_question_keeps_its_answer_in_the_control() -> None:
    rows = [{"question": str(number), "answer": str(number)} for number in range(20)]
    mixed = shuffled(rows, 0)
    assert [row["question"] for row in mixed] == [row["question"] for row in rows]
    assert {row["answer"] for row in mixed} == {row["answer"] for row in rows}
    assert all(row["question"] != row["answer"] for row in mixed)


def test_made_up_rows_are_short_and_partly_learnt() -> None:
    rows = make_rows(200, 1000)
    assert all(24 <= len(row.ids) <= 187 for row in rows)
    assert 0.2 < sum(row.supervised for row in rows) / sum(len(row.ids) for row in rows) < 0.45


@pytest.mark.slow
def test_the_gpu_benchmark_runs_on_a_processor(tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    command = [sys.executable, "-m", "benchmarks.training_gpu", "--device", "cpu", "--shapes", "tiny"]
    command += [
        "--repeats",
        "1",
        "--steps",
        "3",
        "--warm-up",
        "1",
        "--rows-per-step",
        "16",
        "--output",
        str(output),
    ]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    report = json.loads(output.read_text(encoding="utf-8"))
    arms = {(line["arm"], line["method"]): line for line in report["results"]}
    assert "failed" not in arms["ours", "lora"]
    assert arms["ours", "lora"]["tokens_per_s"] > 0
    assert "unsloth" in report["missing"]
