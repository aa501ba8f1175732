"""One sweep's turn: what its jobs have come to is taken over, losers are stopped, and what can start starts.

Everything happens in the caller's transaction, which holds the sweep's row. `libs.common.jobs.sweep_rules` decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import structlog
from sqlalchemy.orm import Session

from libs.common import tracing
from libs.common.db.tables import JobRow, Json, SweepRunRow
from libs.common.errors import JobFailure, PlatformError
from libs.common.jobs import events, sweep_rules, transitions
from libs.common.jobs.patience import is_passing
from libs.common.jobs.pipeline_turn import CANCELLABLE, PAUSABLE, TRY_LATER
from libs.common.jobs.sweep_rules import Point, Result, Standing
from model_training.contracts.jobs import JobError, JobProgress, JobState
from model_training.contracts.sweep_search import jobs_at_most
from model_training.contracts.sweeps import EarlyStop, RunState, SweepBest

log = structlog.get_logger(__name__)

STOPPED_EARLY = "stopped_early"
"""The code of the error of a job that its sweep has stopped."""

Curves = dict[str, list[tuple[int, Point]]]
"""Evaluations by job: the step and the point, in order."""

Start = Callable[[Session, JobRow, SweepRunRow], JobRow]
"""Creates the job of a run (sweep, run). Raises `PlatformError` when it cannot be accepted; the run fails with it."""


class Turn:
    """One sweep, its runs and their jobs, for the length of a transaction that holds the sweep's row."""

    def __init__(
        self,
        session: Session,
        sweep: JobRow,
        runs: Sequence[SweepRunRow],
        jobs: Mapping[str, JobRow],
        curves: Curves,
    ) -> None:
        self._session = session
        self._sweep = sweep
        self._runs = list(runs)
        self._jobs = dict(jobs)
        self._curves = curves
        self._seeds: list[int] = sweep.spec["seeds"]
        self._rule = EarlyStop.model_validate(sweep.spec["early_stop"])

    def take(self, start: Start) -> None:
        """See `SweepDriver.advance`."""
        if self._state is JobState.QUEUED:
            self._begin()
        for run in self._in(RunState.RUNNING):
            self._settle(run)
        if self._state is JobState.RUNNING:
            self._stop_losers()
            self._choose()
            self._start_waiting(start)
        elif self._state is JobState.PAUSING:
            self._ask(PAUSABLE, transitions.request_pause)
        else:  # cancelling, or cancelled while it was paused
            self._ask(CANCELLABLE, transitions.request_cancel)
        self._report_progress()
        if not transitions.is_final(self._sweep):
            self._conclude()

    @property
    def _state(self) -> JobState:
        return JobState(self._sweep.state)

    @property
    def _first(self) -> list[SweepRunRow]:
        """The runs with the first seed: one of each trial."""
        return [run for run in self._runs if run.seed == self._seeds[0]]

    def _in(self, *states: RunState) -> list[SweepRunRow]:
        return [run for run in self._runs if RunState(run.state) in states]

    def _begin(self) -> None:
        again = self._sweep.started_at is not None
        transitions.begin(self._session, self._sweep, "The sweep goes on." if again else "The sweep starts.")
        self._ask(frozenset({JobState.PAUSED}), transitions.resume)

    def _ask(self, states: frozenset[JobState], change: Callable[[Session, JobRow], None]) -> None:
        """Change the jobs of running runs that are in one of these states."""
        for run in self._in(RunState.RUNNING):
            if run.job_id is None:
                continue
            job = self._jobs[run.job_id] = transitions.locked(self._session, run.job_id)
            if JobState(job.state) in states:
                change(self._session, job)

    def _settle(self, run: SweepRunRow) -> None:
        """Take over how far the job of a running run is, and how it ended if it did."""
        job = self._jobs.get(run.job_id or "")
        if job is None:
            gone = JobError(code="job_gone", message="The run's job does not exist any more.")
            return self._fail(run, gone)
        if points := self._curves.get(job.id):
            run.step, run.eval_loss = points[-1][0], min(point.loss for _, point in points)
        match JobState(job.state):
            case JobState.SUCCEEDED:
                self._succeed(run, job)
            case JobState.FAILED:
                unknown = {"code": "unknown", "message": "No reason."}
                self._fail(run, JobError.model_validate(job.error or unknown))
            case JobState.CANCELLED if run.reason:
                run.state = RunState.STOPPED.value
                self._say(run, f"{self._name(run)} was stopped ({job.id}).")
            case JobState.CANCELLED:
                run.state = RunState.CANCELLED.value
                self._say(run, f"{self._name(run)} was cancelled ({job.id}).", level="warn")
            case _:
                pass

    def _succeed(self, run: SweepRunRow, job: JobRow) -> None:
        loss = ((job.result or {}).get("metrics") or {}).get("eval_loss", run.eval_loss)
        if loss is None:
            error = JobError(
                code="no_eval_loss",
                message="The job reported no eval_loss, so the trial cannot be compared.",
                blame="user",
                hint="Give a validation_file, or rows enough that validation_fraction holds some out.",
            )
            return self._fail(run, error)
        run.state, run.eval_loss, run.reason = RunState.SUCCEEDED.value, loss, None
        self._say(run, f"{self._name(run)} ended with eval_loss {loss:.4f} ({job.id}).")

    def _fail(self, run: SweepRunRow, error: JobError) -> None:
        run.state, run.error = RunState.FAILED.value, error.model_dump(mode="json", exclude_none=True)
        self._say(run, f"{self._name(run)} failed: {error.message}", level="error")

    def _stop_losers(self) -> None:
        compared = (RunState.RUNNING, RunState.STOPPED, RunState.SUCCEEDED)
        first = {run.trial: run for run in self._first if RunState(run.state) in compared}
        curves = {n: [p for _, p in self._curves.get(run.job_id or "", [])] for n, run in first.items()}
        running = {n for n, run in first.items() if run.state == RunState.RUNNING and run.reason is None}
        losers = sweep_rules.losers(curves, running, self._rule)
        hopeful = [
            n for n, run in first.items() if run.state == RunState.SUCCEEDED or n in running - losers.keys()
        ]
        if losers and not hopeful and not self._in(RunState.WAITING):
            # Whoever set the mark has failed since: the best of the rest goes on, so that somebody reaches the end.
            del losers[min(losers, key=lambda trial: (losers[trial].loss, trial))]
        for trial, verdict in losers.items():
            self._stop(first[trial], f"{verdict}.")

    def _stop(self, run: SweepRunRow, verdict: str) -> None:
        job = self._jobs[run.job_id or ""] = transitions.locked(self._session, run.job_id or "")
        if JobState(job.state) not in CANCELLABLE:
            return  # it ended in this moment; the next turn takes it over
        run.reason = verdict
        why = JobError(
            code=STOPPED_EARLY,
            message=f"Sweep {self._sweep.id} stopped trial {run.trial}: {verdict}",
            blame="user",
            hint="Its checkpoints stay. `early_stop: {rule: none}` lets every trial run to its end.",
        )
        transitions.request_cancel(self._session, job, why)
        self._say(run, f"{self._name(run)} is stopped: {verdict}")

    def _choose(self) -> None:
        """Once all trials have ended with the first seed, let the best run with the others."""
        if self._in(RunState.WAITING, RunState.RUNNING) or len(self._runs) > len(self._first):
            return
        chosen = sweep_rules.finalists(results_of(self._runs), self._sweep.spec["finalists"])
        if not chosen:
            return self._rescue()
        by_trial = {run.trial: run for run in self._first}
        for trial in sorted(chosen):
            for seed in self._seeds[1:]:
                run = SweepRunRow(
                    sweep_id=self._sweep.id,
                    trial=trial,
                    seed=seed,
                    settings=by_trial[trial].settings,
                    state=RunState.WAITING.value,
                )
                self._session.add(run)
                self._runs.append(run)
        if len(self._seeds) > 1:
            text = f"The best so far run with the other seeds too: {', '.join(f'trial {n}' for n in chosen)}."
            events.append(self._session, self._sweep, text, data={"finalists": chosen})

    def _rescue(self) -> None:
        """All that were better than the stopped ones have failed: the best of the stopped ones runs again, to its end."""
        stopped = [run for run in self._in(RunState.STOPPED) if run.eval_loss is not None]
        if stopped:
            run = min(stopped, key=lambda run: (run.eval_loss or 0.0, run.trial))
            self._say(run, f"{self._name(run)} starts anew: every trial that was better has failed.")
            run.state, run.job_id, run.reason = RunState.WAITING.value, None, None

    def _start_waiting(self, start: Start) -> None:
        room = self._sweep.spec["max_parallel"] - len(self._in(RunState.RUNNING))
        for run in self._in(RunState.WAITING):
            if room <= 0:
                return
            room -= self._start_run(run, start)

    def _start_run(self, run: SweepRunRow, start: Start) -> bool:
        try:
            with self._session.begin_nested(), tracing.continued(self._sweep.traceparent):
                job = start(self._session, self._sweep, run)
        except PlatformError as error:
            if error.status not in TRY_LATER:
                self._fail(run, JobFailure.of(error).error)
            return False
        except Exception as error:
            if is_passing(error):
                raise  # the database is away, which is no fault of the trial
            log.error("run_not_started", sweep_id=run.sweep_id, trial=run.trial, exc_info=error)
            self._fail(run, JobError(code="internal_error", message=f"The run could not start: {error!r}"))
            return False
        self._jobs[job.id] = job
        run.job_id, run.state, run.error = job.id, RunState.RUNNING.value, None
        settings = ", ".join(f"{name}={value}" for name, value in sorted(run.settings.items()))
        self._say(run, f"{self._name(run)} ({settings}) starts as {job.id}.")
        return True

    def _name(self, run: SweepRunRow) -> str:
        return f"Trial {run.trial}" + (f" with seed {run.seed}" if len(self._seeds) > 1 else "")

    def _say(self, run: SweepRunRow, message: str, *, level: events.Level = "info") -> None:
        if transitions.is_final(self._sweep):
            return  # whoever follows the sweep has seen its end; nothing may come after it
        data: Json = {"trial": run.trial, "seed": run.seed, "state": run.state, "job_id": run.job_id}
        if run.error is not None:
            data["error"] = run.error
        events.append(self._session, self._sweep, message, level=level, data=data)
        events.notify(self._session, self._sweep.id)

    def _report_progress(self) -> None:
        spec, running = self._sweep.spec, self._in(RunState.RUNNING)
        ended = len(self._runs) - len(running) - len(self._in(RunState.WAITING))
        chosen = len(self._runs) > len(self._first)
        total = (
            len(self._runs) if chosen else jobs_at_most(len(self._runs), len(self._seeds), spec["finalists"])
        )
        jobs = [self._jobs[run.job_id] for run in running if run.job_id in self._jobs]
        parts = [JobProgress.model_validate(job.progress or {}).fraction for job in jobs]
        best = next((s for s in sweep_rules.standings(results_of(self._runs)) if s.losses), None)
        said = [
            f"{len(running)} running" if running else "",
            f"{n} stopped" if (n := len(self._in(RunState.STOPPED))) else "",
            f"{n} failed" if (n := len(self._in(RunState.FAILED))) else "",
            f"best eval_loss {best.loss:.4f} (trial {best.trial})" if best else "",
        ]
        progress = {
            "fraction": round(min(1.0, (ended + sum(parts)) / total), 4),
            "step": ended,
            "total": total,
            "message": ", ".join(part for part in said if part),
            "eta_s": None,
        }
        if progress != self._sweep.progress:
            self._sweep.progress = progress
            events.notify(self._session, self._sweep.id)

    def _conclude(self) -> None:
        """End the sweep, or let it rest, if nothing of it runs any more."""
        running = [self._jobs[run.job_id] for run in self._in(RunState.RUNNING) if run.job_id in self._jobs]
        if self._state is JobState.RUNNING:
            if not running and not self._in(RunState.WAITING):
                self._end()
        elif self._state is JobState.CANCELLING:
            if not running:
                transitions.stopped(self._session, self._sweep)
        elif all(job.state == JobState.PAUSED for job in running):
            transitions.stopped(self._session, self._sweep)

    def _end(self) -> None:
        best = best_of(self._runs, self._jobs)
        if best is None:
            return transitions.fail(self._session, self._sweep, self._reason())
        settings = ", ".join(f"{name}={value}" for name, value in sorted(best.settings.items()))
        spread = f" ± {best.std:.4f}" if best.std is not None else ""
        seeds = f" over {len(best.losses)} seeds" if len(self._seeds) > 1 else ""
        text = f"The best is trial {best.trial} ({settings}): eval_loss {best.eval_loss:.4f}{spread}{seeds}."
        data = best.model_dump(mode="json")
        events.append(self._session, self._sweep, text, data=data)
        return transitions.succeed(self._session, self._sweep, {"best": data})

    def _reason(self) -> JobError:
        """Why the sweep failed: the first trial that did."""
        failed = self._in(RunState.FAILED)
        first = JobError.model_validate(failed[0].error) if failed else None
        cause = f" Trial {failed[0].trial}: {first.message}" if first else ""
        return JobError(
            code="all_trials_failed",
            message=f"None of {len(self._first)} trials ran to its end: {len(failed)} failed, "
            f"{len(self._in(RunState.CANCELLED))} were cancelled.{cause}",
            param=first.param if first else None,
            blame=first.blame if first else "user",
            hint=first.hint if first else "Create the sweep again.",
        )


def results_of(runs: Sequence[SweepRunRow]) -> list[Result]:
    """Runs as `sweep_rules` takes them."""
    return [Result(run.trial, run.seed, RunState(run.state), run.eval_loss) for run in runs]


def best_of(runs: Sequence[SweepRunRow], jobs: Mapping[str, JobRow]) -> SweepBest | None:
    """The best trial with its spread over seeds and its lead; None before any trial has ended."""
    ranked = [standing for standing in sweep_rules.standings(results_of(runs)) if standing.losses]
    if not ranked:
        return None
    first, following = ranked[0], _following(ranked)
    seed = min(first.losses, key=lambda seed: first.losses[seed])
    run = next(run for run in runs if (run.trial, run.seed) == (first.trial, seed))
    job = jobs.get(run.job_id or "")
    margin, clear = sweep_rules.lead(first, following)
    return SweepBest(
        trial=first.trial,
        settings=run.settings,
        eval_loss=first.loss or 0.0,
        std=first.std,
        losses={str(seed): loss for seed, loss in first.losses.items()},
        margin=margin,
        clear=clear,
        job_id=run.job_id,
        fine_tuned_model=(job.result or {}).get("model_id") if job is not None else None,
    )


def _following(ranked: Sequence[Standing]) -> Standing | None:
    """The next trial that was treated as the best was: a finalist after a finalist."""
    return next((s for s in ranked[1:] if s.finalist == ranked[0].finalist), None)
