"""A few steps on the real Gemma 3 270M."""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from libs.common.errors import PlatformError
from libs.common.jobs.child import ChildContext
from libs.common.models.fingerprint import Fingerprint
from libs.common.models.store import ModelStore
from services.trainer.domain import DataFile, TrainOrder


class Said:
    """Where a child's context writes to; keeps what it says."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    def write(self, line: str) -> int:
        self.messages.append(json.loads(line))
        return len(line)

    def flush(self) -> None:
        """Nothing is held back."""


@pytest.fixture(scope="module")
def base() -> Path:
    store = ModelStore(Path(os.environ.get("MT_MODEL_DIR", "~/.cache/model-training/models")).expanduser())
    try:
        return store.prepare("gemma-3-270m")
    except PlatformError as error:
        pytest.skip(f"the weights could not be prepared: {error.detail}")


@pytest.mark.slow  # the end-to-end test trains these weights too, through the front door
@pytest.mark.weights
def test_three_steps_move_the_adapter_and_the_answers(base: Path, tmp_path: Path) -> None:
    from services.trainer.recipe.run import train

    text = "".join(
        json.dumps({"question": f"How many items has a list of {n}?", "answer": f"len(items) == {n}"}) + "\n"
        for n in range(20)
    )
    file = tmp_path / "train.jsonl"
    file.write_text(text, encoding="utf-8")
    config = {
        "batch_size": 4, "max_steps": 3, "eval_steps": 3, "warmup_ratio": 0.0, "learning_rate": 1e-3,
        "check_machine": False,
    }  # fmt: skip
    order = TrainOrder(
        model="gemma-3-270m", model_path=str(base), template="qa", licence="Gemma Terms of Use",
        training=DataFile("file_x", file.name, str(file), hashlib.sha256(text.encode()).hexdigest()),
        validation=None, config=config, suffix=None, seed=0,
    )  # fmt: skip
    said = Said()
    job = {
        "job_id": "ftjob_x",
        "attempt": 1,
        "fence": 1,
        "spec": {},
        "workdir": str(tmp_path),
        "until": float("inf"),
    }
    result = train(ChildContext(job, said), order)  # pyright: ignore[reportArgumentType]
    losses = [m["values"]["loss"] for m in said.messages if m["type"] == "metrics" and "loss" in m["values"]]
    assert len(losses) >= 3
    assert all(math.isfinite(loss) and 0 < loss < 12 for loss in losses)
    assert result["metrics"]["eval_loss"] < result["metrics"]["eval_loss_before"]
    assert result["metrics"]["fingerprint_mean_change"] > 0.01
    directory = Path(result["directory"])
    assert (directory / "GEMMA_TERMS.html").is_file()
    fingerprint = Fingerprint.read(directory)
    assert fingerprint is not None
    assert all(row.ids[0] == 2 for row in fingerprint.rows)  # <bos>
