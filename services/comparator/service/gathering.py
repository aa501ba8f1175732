"""Gets every arm's answers: waits for evaluations, starting those that are missing, and asks free questions."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from libs.common.errors import JobFailure, JobStopped
from model_training.contracts.chat import ChatMessage, ChatReply
from model_training.contracts.comparisons import ArmSpec, ComparisonCreate
from model_training.contracts.evaluations import EvaluationCreate, ItemResult
from model_training.contracts.jobs import FINAL_STATES, Job, JobState
from services.comparator.domain.arms import RAG_PREFIX, Arm
from services.comparator.ports import Platform

QUERIES = "test_queries"
"""The suite's name under which free questions stand in the report."""

UNITS = 1000
"""Steps of the progress bar that the answers take; the report takes the rest."""


class Context(Protocol):
    """What is used of `libs.common.jobs.child.ChildContext`."""

    job_id: str

    def event(self, message: str) -> None: ...
    def progress(self, step: int, total: int, message: str = "", eta_s: float | None = None) -> None: ...
    def stop_requested(self) -> str | None: ...


@dataclass
class Gatherer:
    """Collects the answers of one comparison."""

    context: Context
    platform: Platform
    request: ComparisonCreate
    poll_s: float = 1.0
    shots: Mapping[str, Sequence[ChatMessage]] = field(default_factory=dict[str, Sequence[ChatMessage]])
    """By arm: turns shown before a free question, for a model that was never instructed."""

    def arms(self) -> list[Arm]:
        """Every arm with its graded items.

        Raises:
            JobFailure: an evaluation failed or was cancelled.
            JobStopped: a stop was asked for; on cancel, evaluations started here are cancelled too.
        """
        started = {
            arm.name: arm.evaluation or self._start(position, arm)
            for position, arm in enumerate(self.request.arms)
        }
        self._wait(started)
        return [self._collect(arm, started[arm.name]) for arm in self.request.arms]

    def _start(self, position: int, arm: ArmSpec) -> str:
        self._check_stop([])
        request = EvaluationCreate(
            model=arm.model,
            suites=self.request.suites,
            prompt=arm.prompt or self.request.prompt,
            fresh=True,  # an answer from a cache took no time and cost nothing, which is not what is compared
            seed=self.request.seed,
            metadata={"comparison": self.context.job_id, "arm": arm.name},
        )
        # The key holds the job and the arm, so that a comparison that starts again finds its evaluations.
        created = self.platform.create_evaluation(request, f"{self.context.job_id}:{position}")
        self.context.event(f"Evaluating {arm.name} ({arm.model}) as {created.id}.")
        return created.id

    def _wait(self, started: Mapping[str, str]) -> None:
        own = [started[arm.name] for arm in self.request.arms if arm.evaluation is None]
        while True:
            self._check_stop(own)
            jobs = {name: self.platform.job(job_id) for name, job_id in started.items()}
            for name, job in jobs.items():
                _refuse_unfinished(name, job)
            if all(job.state is JobState.SUCCEEDED for job in jobs.values()):
                return
            self._report(jobs)
            time.sleep(self.poll_s)

    def _check_stop(self, own: Sequence[str]) -> None:
        stop = self.context.stop_requested()
        if stop == "cancel":
            for job_id in own:
                self.platform.cancel(job_id)
        if stop is not None:
            raise JobStopped

    def _report(self, jobs: Mapping[str, Job]) -> None:
        """Progress over all arms, in the words of the one that runs."""
        open_jobs = {name: job for name, job in jobs.items() if job.state not in FINAL_STATES}
        running = [name for name, job in open_jobs.items() if job.state is JobState.RUNNING]
        speaker = (running or list(open_jobs))[0]
        done = sum(job.progress.fraction for job in open_jobs.values()) + len(jobs) - len(open_jobs)
        waits = [job.progress.eta_s for job in open_jobs.values()]
        eta_s = sum(wait or 0.0 for wait in waits) if None not in waits else None
        message = f"{speaker}: {jobs[speaker].progress.message or jobs[speaker].state.value}"
        self.context.progress(int(UNITS * done / len(jobs)), UNITS, message, eta_s)

    def _collect(self, arm: ArmSpec, evaluation_id: str) -> Arm:
        evaluation = self.platform.evaluation(evaluation_id)
        if evaluation.model != arm.model:
            raise JobFailure(
                "wrong_evaluation",
                f"Arm {arm.name!r} is of {arm.model}, but evaluation {evaluation_id} is of "
                f"{evaluation.model}.",
                blame="user",
                param="arms",
                hint="Give the evaluation of that model, or leave it out and one will be run.",
            )
        items = self.platform.items(evaluation_id)
        return Arm(
            name=arm.name,
            model=arm.model,
            items={item.item_id: item for item in items},
            evaluation=evaluation_id,
            machine_s=None if any(item.cached for item in items) else evaluation.duration_s,
            prompt_description=evaluation.prompt_description,
            isolation=evaluation.isolation,
        )

    def bare_arms(self) -> list[Arm]:
        """The arms without graded items, for free questions alone."""
        return [
            Arm(arm.name, arm.model, prompt_description=self._describe_free(arm)) for arm in self.request.arms
        ]

    def _describe_free(self, arm: ArmSpec) -> str:
        count = len(self.shots.get(arm.name, ())) // 2
        how = f"Solved examples as earlier turns ({count})" if count else "The question alone"
        passages = "; passages from the index are put before it" if arm.model.startswith(RAG_PREFIX) else ""
        return f"{how}{passages}. Temperature 0."

    def free_answers(self) -> dict[str, list[ItemResult]]:
        """Each arm's answers to `test_queries`, in their order; none is graded, since none has a reference.

        Raises:
            JobFailure: a model refused to answer or could not be reached.
            JobStopped: a stop was asked for.
        """
        queries, arms = self.request.test_queries, self.request.arms
        answers: dict[str, list[ItemResult]] = {arm.name: [] for arm in arms}
        total = len(queries) * len(arms)
        for position, query in enumerate(queries):
            for number, arm in enumerate(arms):
                self._check_stop([])
                self.context.progress(
                    position * len(arms) + number,
                    total,
                    f"{arm.name}: question {position + 1} of {len(queries)}",
                )
                answers[arm.name].append(self._ask(arm, position, query))
        return answers

    def _ask(self, arm: ArmSpec, position: int, query: str) -> ItemResult:
        prompt = arm.prompt or self.request.prompt
        messages = [*self.shots.get(arm.name, ()), ChatMessage(role="user", content=query)]
        began = time.perf_counter()
        reply = self.platform.chat(arm.model, messages, prompt.max_tokens)
        return _ungraded(position, query, reply, time.perf_counter() - began)


def _refuse_unfinished(name: str, job: Job) -> None:
    if job.state is JobState.CANCELLED:
        raise JobFailure(
            "evaluation_cancelled",
            f"The evaluation of arm {name!r} ({job.id}) was cancelled.",
            blame="user",
            param="arms",
            hint="Start the comparison again.",
        )
    if job.state is JobState.FAILED:
        error = job.error
        raise JobFailure(
            error.code if error else "evaluation_failed",
            f"The evaluation of arm {name!r} ({job.id}) failed: "
            f"{error.message if error else 'no reason given'}",
            blame=error.blame if error else "system",
            param="arms",
            hint=error.hint if error else None,
            rows=error.rows if error else None,
        )


def _ungraded(position: int, query: str, reply: ChatReply, seconds: float) -> ItemResult:
    return ItemResult(
        item_id=f"{QUERIES}-{position + 1}",
        suite=QUERIES,
        form="free",
        group=f"{QUERIES}-{position + 1}",
        question=query,
        prompt=_writable(reply.prompt or query),
        output=_writable(reply.choices[0].message.content),
        reference="",
        correct=False,
        score=0.0,
        status="not_graded",
        reason="No reference answer was given, so there is nothing to grade against.",
        latency_s=seconds,
        prompt_tokens=reply.usage.prompt_tokens,
        completion_tokens=reply.usage.completion_tokens,
        sources=reply.sources or [],
    )


def _writable(text: str) -> str:
    """Text that UTF-8 can hold: a lone half of a surrogate pair becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")
