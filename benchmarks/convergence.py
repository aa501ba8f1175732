"""Does training teach? The real Gemma 3 270M on a packaged data set, several seeds, against a control: the same questions
with each other's answers. What the rows teach must show in the first and not in the second.

    python -m benchmarks.convergence --data runs/demo/dataset --output result.json [--runs 2]

`--data` holds `train.jsonl` and `evaluation.jsonl` as `mt dataset from-package` writes them. The executable rows are trained
on; held-out items, which share no call with them, are answered before and after and graded in the evaluator's sandbox. Runs
that stand in the output file are not done again, so that a long benchmark can be done in pieces: `--runs` bounds how many.
The control may lower the loss, as it shows what answers look like; it cannot make them right.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import mean, stdev
from typing import Any

NAME = "gemma-3-270m"
ARMS = ("answers", "shuffled")
SEEDS = (0, 1, 2)
SHOWN = ("eval_loss", "eval_token_accuracy", "exact_match", "pass_rate")


@dataclass
class Recorder:
    """A job's context that keeps the points and nothing else."""

    workdir: Path
    job_id: str = "ftjob_convergence"
    attempt: int = 1
    fence: int = 1
    points: dict[int, dict[str, float]] = field(default_factory=dict[int, dict[str, float]])
    before: dict[str, float] = field(default_factory=dict[str, float])

    def event(self, message: str, *, data: dict[str, Any] | None = None, **_: Any) -> None:
        """Keep the measurement of the untouched base."""
        if "before training" in message:
            self.before = dict(data or {})

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Keep a point."""
        self.points[step] = values

    def progress(self, *_: Any, **__: Any) -> None: ...
    def output(self, *_: Any, **__: Any) -> None: ...
    def stop_requested(self) -> None: ...
    def check_stop(self) -> None: ...


def main() -> None:
    arguments = _arguments()
    os.environ.update(HF_HUB_OFFLINE="1", GOMP_SPINCOUNT="1000", OMP_NUM_THREADS=str(arguments.threads))
    if arguments.run:
        arm, seed = arguments.run.split(":")
        print(json.dumps(train_and_grade(arguments, arm, int(seed))))
        return
    report = json.loads(arguments.output.read_text(encoding="utf-8")) if arguments.output.is_file() else {}
    runs = report.setdefault("runs", {})
    missing = [f"{arm}:{seed}" for seed in SEEDS for arm in ARMS if f"{arm}:{seed}" not in runs]
    for name in missing[: arguments.runs]:
        runs[name] = _in_its_own_process(name)
        report |= _facts(arguments) | {"summary": summary(runs)}
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(table(summary(runs)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=240)
    parser.add_argument("--items", type=int, default=48)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=len(ARMS) * len(SEEDS))
    parser.add_argument("--run", help=argparse.SUPPRESS)
    return parser.parse_args()


def _in_its_own_process(name: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.convergence", *sys.argv[1:], "--run", name]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def train_and_grade(arguments: argparse.Namespace, arm: str, seed: int) -> dict[str, Any]:
    """One run: the points of its way, and what its answers are worth before and after."""
    from services.trainer.recipe.run import train

    items = evaluation_items(arguments)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        context = Recorder(Path(name))
        result = train(context, _order(arguments, arm, seed, items, Path(name)))
        graded = _graded(items, Path(result["directory"]), with_base=(arm, seed) == (ARMS[0], SEEDS[0]))
    metrics = result["metrics"]
    before = {name: context.before[name] for name in SHOWN if name in context.before}
    return {
        "before": before | graded["base"],
        "after": {name: metrics[name] for name in SHOWN if name in metrics} | graded["tuned"],
        "best_step": result["best_step"],
        "train_loss": {
            step: round(values["loss"], 4) for step, values in context.points.items() if "loss" in values
        },
        "eval_loss": {
            step: round(values["eval_loss"], 4)
            for step, values in context.points.items()
            if "eval_loss" in values
        },
        "seconds": round(time.monotonic() - began),
    }


def _order(arguments: argparse.Namespace, arm: str, seed: int, items: Sequence[Any], folder: Path) -> Any:
    from services.trainer.domain import TrainOrder

    rows = _rows(arguments.data / "train.jsonl", lambda row: row["kind"] == "code")
    if arm == "shuffled":
        rows = shuffled(rows, seed)
    questions = [{"question": item.question, "answer": item.answer} for item in items]
    steps = -(-arguments.rows // 16) * arguments.epochs
    return TrainOrder(
        model=NAME,
        model_path=str(_base()),
        template="qa",
        licence="Gemma Terms of Use",
        training=_file(folder / "train.jsonl", rows),
        validation=_file(folder / "validation.jsonl", questions),
        config={
            "check_machine": False,
            "max_rows": arguments.rows,
            "epochs": arguments.epochs,
            "learning_rate": 5e-4,
            "eval_steps": max(1, steps // 2),
            "early_stopping_patience": 0,
        },
        suffix=None,
        seed=seed,
    )


def shuffled(rows: list[dict[str, Any]], seed: int) -> list[dict[str, Any]]:
    """The rows with each other's answers; none keeps its own."""
    order = list(range(len(rows)))
    random.Random(seed).shuffle(order)
    giver = dict(zip(order, order[1:] + order[:1], strict=True))
    return [{**row, "answer": rows[giver[number]]["answer"]} for number, row in enumerate(rows)]


def evaluation_items(arguments: argparse.Namespace) -> list[Any]:
    """Executable items, the same for every run."""
    from model_training.contracts.evaluations import EvaluationItem

    rows = _rows(arguments.data / "evaluation.jsonl", lambda row: row["suite"] == "code_generation")
    return [EvaluationItem(**row) for row in random.Random(0).sample(rows, min(arguments.items, len(rows)))]


def _graded(items: Sequence[Any], adapter: Path, *, with_base: bool) -> dict[str, dict[str, float]]:
    """Greedy answers with the adapter, and of the base where asked for: how many are those of the rows, and how many the
    sandbox finds right."""
    from peft import PeftModel

    from libs.common.models.prompting import load_template
    from model_training.config.training_config import TrainingConfig
    from model_training.datasets.rows import TrainingRow
    from services.trainer.recipe.base import load_served, load_tokenizer
    from services.trainer.recipe.encode import encode_rows
    from services.trainer.recipe.generation import generated

    base = _base()
    tokenizer = load_tokenizer(base)
    rows = [TrainingRow(id=item.id, question=item.question, answer=item.answer) for item in items]
    examples = encode_rows(rows, tokenizer, load_template("qa"), TrainingConfig(check_machine=False)).examples
    model = load_served(base, "cpu").eval()
    before = _scores(items, generated(model, tokenizer, examples)) if with_base else {}
    tuned = PeftModel.from_pretrained(model, str(adapter)).eval()
    tuned.merge_adapter()
    return {"base": before, "tuned": _scores(items, generated(tuned.get_base_model(), tokenizer, examples))}


def _scores(items: Sequence[Any], answers: Sequence[str]) -> dict[str, float]:
    from services.evaluator.grading import Grader
    from services.evaluator.sandbox.pool import Sandbox

    pairs = list(zip(items, answers, strict=True))
    with Sandbox() as sandbox:
        passed = [Grader(sandbox).grade(item, answer).status == "passed" for item, answer in pairs]
    return {"exact_match": mean(item.answer == answer for item, answer in pairs), "pass_rate": mean(passed)}


def _base() -> Path:
    from libs.common.models.prepare import default_model_dir
    from libs.common.models.store import ModelStore

    return ModelStore(default_model_dir()).resolve(NAME)


def summary(runs: dict[str, Any]) -> dict[str, Any]:
    """Mean and standard deviation over the seeds of each arm, and of the base."""
    found: dict[str, Any] = {}
    for arm in ARMS:
        of_arm = [run for name, run in runs.items() if name.startswith(f"{arm}:")]
        found[arm] = _spread([run["after"] for run in of_arm])
    found["base"] = _spread([run["before"] for run in runs.values()])
    return found


def _spread(points: list[dict[str, float]]) -> dict[str, Any]:
    values = {name: [point[name] for point in points if name in point] for name in SHOWN}
    return {
        name: {
            "mean": round(mean(all_), 4),
            "sd": round(stdev(all_), 4) if len(all_) > 1 else 0.0,
            "runs": len(all_),
        }
        for name, all_ in values.items()
        if all_
    }


def table(found: dict[str, Any]) -> str:
    """The summary as a person reads it."""
    lines = [f"{'':10}" + "".join(f"{name.removeprefix('eval_'):>22}" for name in SHOWN)]
    for arm in ("base", "answers", "shuffled"):
        cells = [found[arm].get(name) for name in SHOWN]
        lines.append(
            f"{arm:10}"
            + "".join(f"{c['mean']:>13.3f} ± {c['sd']:<6.3f}" if c else f"{'-':>22}" for c in cells)
        )
    return "\n".join(lines)


def _facts(arguments: argparse.Namespace) -> dict[str, Any]:
    libraries = ("torch", "transformers", "peft")
    return {
        "model": NAME,
        "threads": arguments.threads,
        "rows": arguments.rows,
        "epochs": arguments.epochs,
        "items": arguments.items,
        "versions": {name: version(name) for name in libraries},
    }


def _rows(path: Path, wanted: Any) -> list[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if wanted(row)]


def _file(path: Path, rows: list[dict[str, Any]]) -> Any:
    from services.trainer.domain import DataFile

    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return DataFile(path.stem, path.name, str(path), hashlib.sha256(text.encode()).hexdigest())


if __name__ == "__main__":
    main()
