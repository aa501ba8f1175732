"""One small run through every service: data set, index, training, evaluation, comparison, and an answer from each arm.

Runs where `mt` is installed, against the gateway that `MT_GATEWAY_URL` names (`make compose-smoke` runs it in a container).
Prints one line a check and ends with 1 at the first that fails.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from model_training.cli.dataset import build
from model_training.client import pipeline_file
from model_training.client.client import Client
from model_training.contracts.jobs import JobState

FILE = Path(__file__).with_name("pipeline.yaml")
BASE = "gemma-3-270m"
QUESTION = "Write a call of more_itertools.chunked that splits [1, 2, 3] into pairs."
LIMIT_S = 1800.0


def say(what: str, started: float) -> None:
    """One check that passed."""
    sys.stdout.write(f"ok  {what} ({time.monotonic() - started:.1f} s)\n")
    sys.stdout.flush()


def run_pipeline(client: Client) -> dict[str, dict[str, str]]:
    """Build the data set, run the pipeline, and return each step's results.

    Raises:
        RuntimeError: a step did not succeed.
    """
    started = time.monotonic()
    wanted = pipeline_file.read(FILE)
    with TemporaryDirectory() as folder:
        build(wanted.packages, Path(folder), wanted.options)
        say("a data set was built from an installed package", started)
        request = pipeline_file.with_uploads(client, wanted, Path(folder))
    created = client.pipelines.create(request)
    started = time.monotonic()
    job = client.jobs.wait(created.id, timeout_s=LIMIT_S)
    pipeline = client.pipelines.get(created.id)
    for step in pipeline.steps:
        if step.state.value != "succeeded":
            raise RuntimeError(f"{step.name}: {step.state.value}: {step.error.message if step.error else ''}")
        sys.stdout.write(f"    {step.name}: {step.result}\n")
    if job.state is not JobState.SUCCEEDED:
        raise RuntimeError(f"the pipeline {job.state.value}")
    say("indexed, trained, evaluated and compared", started)
    return {step.name: dict(step.result or {}) for step in pipeline.steps}


def check_answers(client: Client, tuned: str, index: str) -> None:
    """The base, the tuned model and retrieval each answer; a base model may end at once, and has then written a token.

    Raises:
        RuntimeError: nothing was written, or no passage found.
    """
    for model in (BASE, tuned, f"rag:{index}@{BASE}"):
        started = time.monotonic()
        reply = client.chat.create(model, QUESTION, max_tokens=16)
        if reply.usage.completion_tokens < 1:
            raise RuntimeError(f"{model} answered nothing")
        if model.startswith("rag:") and not reply.sources:
            raise RuntimeError(f"{model} found no passage")
        found = f", {len(reply.sources)} sources" if reply.sources else ""
        say(f"{model} answers: {reply.usage.completion_tokens} tokens{found}", started)


def main() -> int:
    """Run it."""
    started = time.monotonic()
    with Client() as client:
        done = run_pipeline(client)
        check_answers(client, done["train"]["fine_tuned_model"], done["index"]["id"])
        evaluation = client.evaluations.get(done["evaluate"]["id"])
        sys.stdout.write(f"    generated programs ran in {evaluation.isolation}\n")
    say("everything", started)
    return 0


if __name__ == "__main__":
    sys.exit(main())
