"""Two processes learn what one does; that they are launched and speak as one is in tests/integration/trainer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.trainer.domain import TrainOrder
from services.trainer.recipe import run
from tests.conftest import free_ports
from tests.unit.trainer.ranks import train_together


def test_losses_are_those_of_one_process_with_the_whole_batch(
    tiny_order: Callable[..., TrainOrder], make_context: Any, tmp_path: Path
) -> None:
    order = tiny_order(batch_size=8, epochs=1, device="cpu")
    context = make_context(tmp_path / "alone")
    context.workdir.mkdir()
    alone = run.train(context, order)
    together = train_together(order, tmp_path / "together", free_ports(1))
    assert together["points"].keys() == context.points.keys()
    for step, values in context.points.items():
        for name in ("loss", "grad_norm", "eval_loss"):
            if name in values:
                assert together["points"][step][name] == pytest.approx(values[name], rel=1e-3), (step, name)
    assert together["result"]["data"] == alone["data"]
    assert together["result"]["trained_tokens"] == alone["trained_tokens"]
    assert [other["result"] for other in together["others"]] == [{}], "process 0 alone writes"
