"""The process that trains. Started by the worker for one job; the only process of this service that imports torch."""

from __future__ import annotations

import os
import time
from typing import Any

from libs.common.jobs.child import ChildContext, run_child
from services.trainer.domain import TrainOrder

STARTED = time.monotonic()
"""Before the imports, which take longer than a small job's steps."""


def work(context: ChildContext) -> dict[str, Any]:
    """Train as the order says; see `recipe.run.train`."""
    # Read by the libraries when they are imported: models come from the store, never from a hub, and nothing is reported.
    os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="false")
    # A thread that waits for another spins this often and then sleeps. By default it spins for milliseconds, which takes the
    # processor from the very thread it waits for: with one other busy process on two cores, training fell to an eighth.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # Shapes whose code and packed weights oneDNN keeps, about 2 MB each; its default of 1024 is too many for this job.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "512")
    from services.trainer.recipe.run import train

    return train(context, TrainOrder.from_dict(context.spec), STARTED)


if __name__ == "__main__":
    run_child(work)
