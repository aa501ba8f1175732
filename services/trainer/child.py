"""The process that trains. Started by the worker for one job; it, or those that it launches, alone import torch here."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from libs.common.jobs.child import ChildContext, run_child
from services.trainer.domain import TrainOrder
from services.trainer.grading import grading
from services.trainer.launch import read_shape, run
from services.trainer.settings import GradingSettings, LaunchSettings

STARTED = time.monotonic()
"""Before the imports, which take longer than a small job's steps."""


OTHERS = ("datasets", "scipy", "sklearn")
"""Packages that transformers and PEFT import wherever they are installed, for what no training job here uses. Together with
bitsandbytes they take half of the time that a child needs to start."""


def leave_out(config: Mapping[str, Any]) -> None:
    """Hide packages that this job will not use from those that would import them all the same. Trackers and Unsloth, which
    import what they please, get everything."""
    if config.get("report_to") or find_spec("unsloth") is not None:
        return
    quantises = config.get("load_in_4bit") or config.get("optimizer") == "adamw_8bit"
    for name in OTHERS if quantises else (*OTHERS, "bitsandbytes"):
        sys.modules.setdefault(name, None)  # pyright: ignore[reportArgumentType] (as documented: the import then fails)


def work(context: ChildContext) -> dict[str, Any]:
    """Train as the order says; see `recipe.run.train`."""
    order = TrainOrder.from_dict(context.spec)
    prepare_process(order.config)
    from services.trainer.recipe.run import train

    return train(context, order, STARTED, grade=grading(GradingSettings()))


def prepare_process(config: Mapping[str, Any]) -> None:
    """Set what libraries read when they are imported, and hide those that this job does not use."""
    # Read by the libraries when they are imported: models come from the store, never from a hub, and nothing is reported.
    os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="false")
    # A thread that waits for another spins this often and then sleeps. By default it spins for milliseconds, which takes the
    # processor from the very thread it waits for: with one other busy process on two cores, training fell to an eighth.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # Shapes whose code and packed weights oneDNN keeps, about 2 MB each; its default of 1024 is too many for this job.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "512")
    leave_out(config)


if __name__ == "__main__":
    settings = LaunchSettings()
    shape = read_shape(settings)
    if shape.is_several:
        run(shape, settings.home)
    else:
        run_child(work)
