"""Gets every arm's answers: waits for evaluations, starting those that are missing, and asks free questions."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from libs.common.errors import JobFailure, JobStopped
from model_training.contracts.chat import ChatMessage, ChatReply
from model_training.contracts.comparisons import ArmSpec, ComparisonCreate, MissingArm
from model_training.contracts.evaluations import EvaluationCreate, ItemResult, Part
from model_training.contracts.jobs import FINAL_STATES, Job, JobState
from services.comparator.domain.arms import RAG_PREFIX, Arm
from services.comparator.domain.looks import Looks, orders
from services.comparator.ports import Platform

QUERIES = "test_queries"
"""The suite's name under which free questions stand in the report."""

UNITS = 1000
"""Steps of the progress bar that the answers take; the report takes the rest."""


Enough = Callable[[Sequence[Arm], Looks], bool]
"""Whether the items that are in will do, so that no further block is asked."""


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
    _collected: dict[str, Arm] = field(default_factory=dict[str, Arm])
    """By evaluation: what was fetched already."""
    _failed: dict[str, JobFailure] = field(default_factory=dict[str, JobFailure])
    """By arm: why it could not be evaluated, or asked."""
    _compared: set[str] = field(default_factory=set[str])
    """Arms with graded items."""

    def arms(self, enough: Enough | None = None) -> tuple[list[Arm], Looks]:
        """Every arm with its graded items, and the looks that were taken at them while they came in.

        The items are asked in the request's blocks, every arm in each. With `enough` the next block waits for its answer on
        those before; without it, all are queued at once.

        An arm whose evaluation fails is left out of all items, and is in `missing`.

        Raises:
            JobFailure: an evaluation was cancelled, or those of all arms failed.
            JobStopped: a stop was asked for; on cancel, evaluations started here are cancelled too.
        """
        blocks = self.request.blocks
        started: dict[tuple[int, int], str] = {}
        if enough is None:
            for block in range(1, blocks + 1):
                started |= self._start_block(block)
            self._wait(started)
            return self._collect_all(started), Looks()
        looks = Looks(of=blocks)
        while True:
            started |= self._start_block(len(looks.ids) + 1)
            self._wait(started)
            arms = self._collect_all(started)
            everywhere = frozenset.intersection(*(frozenset(arm.items) for arm in arms))
            looks = Looks((*looks.ids, everywhere), blocks)
            if enough(arms, looks):
                return arms, looks

    @property
    def order(self) -> list[list[str]]:
        """By block, the arms in the order in which they are asked."""
        arms = self.request.arms
        return [
            [arms[i].name for i in order]
            for order in orders(len(arms), self.request.blocks, self.request.seed)
        ]

    @property
    def missing(self) -> list[MissingArm]:
        """Arms that failed so far, in the order of the request."""
        return [
            MissingArm(
                arm=arm.name,
                of="questions" if arm.name in self._compared else "items",
                reason=failure.error.message,
                hint=failure.error.hint,
            )
            for arm in self.request.arms
            if (failure := self._failed.get(arm.name)) is not None
        ]

    def _leave_out(self, arm: ArmSpec, failure: JobFailure) -> None:
        """Go on without an arm.

        Raises:
            JobFailure: there is none left that could be chosen; the first arm's reason.
        """
        if arm.name in self._failed:
            return
        self._failed[arm.name] = failure
        choices = [one.name for one in self.request.arms if one.passages == "searched"]
        if all(name in self._failed for name in choices):
            raise self._failed[choices[0]]
        self.context.event(f"Going on without {arm.name}: {failure.error.message}")

    def _start_block(self, block: int) -> dict[tuple[int, int], str]:
        """Queue a block's evaluations; by arm and block, their ids. An arm that names an evaluation has no others."""
        arms, blocks = self.request.arms, self.request.blocks
        order = orders(len(arms), blocks, self.request.seed)[block - 1] if blocks > 1 else range(len(arms))
        asked = [
            position
            for position in order
            if arms[position].evaluation is None and arms[position].name not in self._failed
        ]
        given = {(i, block): arm.evaluation for i, arm in enumerate(arms) if arm.evaluation and block == 1}
        return given | {(position, block): self._start(position, arms[position], block) for position in asked}

    def _start(self, position: int, arm: ArmSpec, block: int) -> str:
        self._check_stop([])
        blocks = self.request.blocks
        request = EvaluationCreate(
            model=arm.model,
            suites=self.request.suites,
            prompt=arm.prompt or self.request.prompt,
            passages=arm.passages,
            prices=arm.prices or self.request.prices,
            part=Part(number=block, of=blocks) if blocks > 1 else None,
            fresh=True,  # an answer from a cache took no time and cost nothing, which is not what is compared
            seed=self.request.seed,
            metadata={"comparison": self.context.job_id, "arm": arm.name},
        )
        # The key holds the job, the arm and the block, so that a comparison that starts again finds its evaluations.
        key = f"{self.context.job_id}:{position}" + (f":{block}" if blocks > 1 else "")
        created = self.platform.create_evaluation(request, key)
        part = f", block {block} of {blocks}," if blocks > 1 else ""
        self.context.event(f"Evaluating {arm.name} ({arm.model}){part} as {created.id}.")
        return created.id

    def _wait(self, started: Mapping[tuple[int, int], str]) -> None:
        arms = self.request.arms
        own = [job_id for (position, _), job_id in started.items() if arms[position].evaluation is None]
        while True:
            self._check_stop(own)
            jobs = {key: self.platform.job(job_id) for key, job_id in started.items()}
            for (position, _), job in jobs.items():
                self._look_at(arms[position], job)
            left = [job for (position, _), job in jobs.items() if arms[position].name not in self._failed]
            if all(job.state is JobState.SUCCEEDED for job in left):
                return
            self._report(jobs)
            time.sleep(self.poll_s)

    def _look_at(self, arm: ArmSpec, job: Job) -> None:
        _refuse_cancelled(arm.name, job)
        if job.state is JobState.FAILED:
            self._leave_out(arm, _failure_of(arm.name, job))
        elif arm.name in self._failed and job.state not in FINAL_STATES and arm.evaluation is None:
            self.platform.cancel(job.id)  # its other blocks are of no use any more

    def _check_stop(self, own: Sequence[str]) -> None:
        stop = self.context.stop_requested()
        if stop == "cancel":
            for job_id in own:
                self.platform.cancel(job_id)
        if stop is not None:
            raise JobStopped

    def _report(self, jobs: Mapping[tuple[int, int], Job]) -> None:
        """Progress over all arms, in the words of the one that runs."""
        open_jobs = {key: job for key, job in jobs.items() if job.state not in FINAL_STATES}
        running = [key for key, job in open_jobs.items() if job.state is JobState.RUNNING]
        speaker = (running or list(open_jobs))[0]
        done = sum(job.progress.fraction for job in open_jobs.values()) + len(jobs) - len(open_jobs)
        waits = [job.progress.eta_s for job in open_jobs.values()]
        eta_s = sum(wait or 0.0 for wait in waits) if None not in waits else None
        name = self.request.arms[speaker[0]].name
        part = f", block {speaker[1]} of {self.request.blocks}" if self.request.blocks > 1 else ""
        message = f"{name}{part}: {jobs[speaker].progress.message or jobs[speaker].state.value}"
        total = sum(self.request.blocks if arm.evaluation is None else 1 for arm in self.request.arms)
        self.context.progress(int(UNITS * done / total), UNITS, message, eta_s)

    def _collect_all(self, started: Mapping[tuple[int, int], str]) -> list[Arm]:
        """Every arm over the blocks that are in."""
        self._compared = {arm.name for arm in self.request.arms if arm.name not in self._failed}
        return [
            self._merged([self._collect(arm, job_id) for (i, _), job_id in started.items() if i == position])
            for position, arm in enumerate(self.request.arms)
            if arm.name not in self._failed
        ]

    def _merged(self, parts: Sequence[Arm]) -> Arm:
        """One arm from its blocks. Its machine time is their sum, where each is known."""
        seconds = [part.machine_s for part in parts if part.machine_s is not None]
        return replace(
            parts[0],
            items={item_id: item for part in parts for item_id, item in part.items.items()},
            machine_s=sum(seconds) if len(seconds) == len(parts) else None,
            evaluations=[part.evaluation for part in parts if part.evaluation],
            isolation=next((part.isolation for part in parts if part.isolation), None),
        )

    def _collect(self, arm: ArmSpec, evaluation_id: str) -> Arm:
        known = self._collected.get(evaluation_id)
        if known is None:
            known = self._collected[evaluation_id] = self._fetch(arm, evaluation_id)
        return known

    def _fetch(self, arm: ArmSpec, evaluation_id: str) -> Arm:
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
            is_bound=arm.passages == "right",
            prices=arm.prices,
        )

    def bare_arms(self) -> list[Arm]:
        """The arms without graded items, for free questions alone."""
        return [
            Arm(arm.name, arm.model, prompt_description=self._describe_free(arm), prices=arm.prices)
            for arm in self._free_arms
        ]

    @property
    def _free_arms(self) -> list[ArmSpec]:
        """Nobody knows which passages are right for a free question, so bounds are not asked any."""
        return [
            arm for arm in self.request.arms if arm.passages == "searched" and arm.name not in self._failed
        ]

    def _describe_free(self, arm: ArmSpec) -> str:
        count = len(self.shots.get(arm.name, ())) // 2
        how = f"Solved examples as earlier turns ({count})" if count else "The question alone"
        passages = "; passages from the index are put before it" if arm.model.startswith(RAG_PREFIX) else ""
        return f"{how}{passages}. Temperature 0."

    def free_answers(self) -> dict[str, list[ItemResult]]:
        """Each arm's answers to `test_queries`, in their order; none is graded, since none has a reference.

        An arm that does not answer one of them is left out, and is in `missing`.

        Raises:
            JobFailure: no arm answers.
            JobStopped: a stop was asked for.
        """
        queries, arms = self.request.test_queries, self._free_arms
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
                if arm.name in self._failed:
                    continue
                try:
                    answers[arm.name].append(self._ask(arm, position, query))
                except JobFailure as failure:
                    self._leave_out(arm, failure)
        return {name: given for name, given in answers.items() if name not in self._failed}

    def _ask(self, arm: ArmSpec, position: int, query: str) -> ItemResult:
        prompt = arm.prompt or self.request.prompt
        messages = [*self.shots.get(arm.name, ()), ChatMessage(role="user", content=query)]
        began = time.perf_counter()
        reply = self.platform.chat(arm.model, messages, prompt.max_tokens)
        return _ungraded(position, query, reply, time.perf_counter() - began)


def _refuse_cancelled(name: str, job: Job) -> None:
    if job.state is JobState.CANCELLED:
        raise JobFailure(
            "evaluation_cancelled",
            f"The evaluation of arm {name!r} ({job.id}) was cancelled.",
            blame="user",
            param="arms",
            hint="Start the comparison again.",
        )


def _failure_of(name: str, job: Job) -> JobFailure:
    error = job.error
    return JobFailure(
        error.code if error else "evaluation_failed",
        f"The evaluation of arm {name!r} ({job.id}) failed: {error.message if error else 'no reason given'}",
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
