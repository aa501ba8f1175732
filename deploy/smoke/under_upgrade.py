"""Jobs and their event streams while services are replaced around them; `deploy/smoke/upgrade` starts it and does that.

Ends with 1 when a job is lost, fails, or an event that was recorded did not arrive in its stream, or arrived twice.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

from model_training.cli.dataset import build
from model_training.client import pipeline_file
from model_training.client.client import Client
from model_training.contracts.files import FilePurpose

FILE = Path(__file__).with_name("pipeline.yaml")
JOBS = 3
STEPS = 24
LIMIT_S = 1500.0


def submit(client: Client) -> list[str]:
    """Training jobs that take long enough to be met by every replacement; they wait for each other."""
    wanted = pipeline_file.read(FILE)
    with TemporaryDirectory() as folder:
        build(wanted.packages, Path(folder), wanted.options)
        rows = client.files.upload(Path(folder) / "train.jsonl", FilePurpose.FINE_TUNE).id
    training = {"max_length": 128, "batch_size": 4, "max_steps": STEPS, "eval_steps": 4, "epochs": 8}
    create = client.fine_tuning.create
    return [
        create(model="gemma-3-270m", training_file=rows, training=training, seed=seed).id
        for seed in range(JOBS)
    ]


def main() -> int:
    """Submit, follow, and compare what arrived with what was recorded."""
    arrived: dict[str, list[int]] = {}

    def follow(job: str) -> None:
        with Client() as own:
            arrived[job] = [event.sequence for event in own.jobs.watch(job)]

    with Client() as client:
        jobs = submit(client)
        followers = [threading.Thread(target=follow, args=(job,)) for job in jobs]
        for follower in followers:
            follower.start()
        sys.stdout.write(f"following {', '.join(jobs)}\n")
        sys.stdout.flush()
        ended = [client.jobs.wait(job, timeout_s=LIMIT_S) for job in jobs]
        for follower in followers:
            follower.join()
        faults = 0
        for job in ended:
            recorded = [event.sequence for event in client.jobs.all_events(job.id)]
            whole = arrived[job.id] == recorded
            faults += job.state.value != "succeeded" or not whole
            sys.stdout.write(
                f"{job.id}: {job.state.value}, attempt {job.attempt}, "
                f"{len(arrived[job.id])} of {len(recorded)} events {'in order' if whole else 'NOT AS RECORDED'}\n"
            )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
