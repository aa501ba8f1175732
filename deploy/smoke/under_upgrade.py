"""Jobs, their events and answers while services are replaced around them; `deploy/smoke/upgrade` starts it and does that.

Ends with 1 when a job is lost, fails, or an event that was recorded did not arrive in its stream, or arrived twice; and when
a question is refused or its answer breaks off. Questions are asked without a second try.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from model_training.cli.dataset import build
from model_training.client import pipeline_file
from model_training.client.client import Client
from model_training.contracts.files import FilePurpose

FILE = Path(__file__).with_name("pipeline.yaml")
JOBS = 3
STEPS = 24
LIMIT_S = 1500.0
ASKERS = 2
ANSWER_TOKENS = 400
"""Long enough for a gateway to be told to stop in the middle."""


@dataclass
class Answers:
    """What became of the questions."""

    whole: int = 0
    faults: list[str] = field(default_factory=list[str])
    longest_s: float = 0.0

    def ask(self, http: httpx.Client) -> None:
        """One streamed answer; it is whole when its last line is `[DONE]`."""
        question = {"role": "user", "content": "Count from one to five hundred, in words."}
        body = {"model": "gemma-3-270m", "messages": [question], "max_tokens": ANSWER_TOKENS, "stream": True}
        started = time.monotonic()
        try:
            with http.stream("POST", "/v1/chat/completions", json=body) as answer:
                lines = [line for line in answer.iter_lines() if line]
        except httpx.HTTPError as error:
            self.faults.append(f"{type(error).__name__}: {error}")
            return
        self.longest_s = max(self.longest_s, time.monotonic() - started)
        if answer.status_code == httpx.codes.OK and lines[-1:] == ["data: [DONE]"]:
            self.whole += 1
        else:
            self.faults.append(f"{answer.status_code}: {lines[-1:]}")


def keep_asking(found: Answers, done: threading.Event, connect: Callable[[], httpx.Client]) -> None:
    """Ask one question after the other until `done`, each on a connection of its own."""
    while not done.is_set():
        with connect() as http:
            found.ask(http)


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


def faults_of(answers: Answers) -> str:
    """How many were not, and why."""
    return f"{len(answers.faults)} not" + "".join(f"\n    {fault}" for fault in answers.faults)


def main() -> int:
    """Submit, follow, and compare what arrived with what was recorded."""
    arrived: dict[str, list[int]] = {}
    answers, done = Answers(), threading.Event()
    key = (Path(os.environ["MT_HOME"]) / "api_key").read_text(encoding="utf-8").strip()

    def connect() -> httpx.Client:
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=os.environ["MT_GATEWAY_URL"], headers=headers, timeout=300)

    def follow(job: str) -> None:
        with Client() as own:
            arrived[job] = [event.sequence for event in own.jobs.watch(job)]

    with Client() as client:
        jobs = submit(client)
        followers = [threading.Thread(target=follow, args=(job,)) for job in jobs]
        askers = [threading.Thread(target=keep_asking, args=(answers, done, connect)) for _ in range(ASKERS)]
        for thread in (*followers, *askers):
            thread.start()
        sys.stdout.write(f"following {', '.join(jobs)}\n")
        sys.stdout.flush()
        ended = [client.jobs.wait(job, timeout_s=LIMIT_S) for job in jobs]
        done.set()
        for thread in (*followers, *askers):
            thread.join()
        faults = len(answers.faults)
        for job in ended:
            recorded = [event.sequence for event in client.jobs.all_events(job.id)]
            whole = arrived[job.id] == recorded
            faults += job.state.value != "succeeded" or not whole
            sys.stdout.write(
                f"{job.id}: {job.state.value}, attempt {job.attempt}, "
                f"{len(arrived[job.id])} of {len(recorded)} events {'in order' if whole else 'NOT AS RECORDED'}\n"
            )
    sys.stdout.write(
        f"{answers.whole} answers whole, {faults_of(answers)}; longest {answers.longest_s:.0f} s\n"
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
