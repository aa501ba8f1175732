"""Celery as a doorbell: a message carries a job's id and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from celery import Celery
from kombu.exceptions import OperationalError
from redis import Redis
from redis.exceptions import RedisError

TASK = "jobs.run"
"""The task of every worker; the queue says which kind of job it takes."""


def make_celery(broker_url: str) -> Celery:
    """A Celery application without a result backend: results live in PostgreSQL."""
    app = Celery("model_training", broker=broker_url)
    app.conf.update(
        task_ignore_result=True,
        task_acks_late=False,  # the claim, not the broker, decides who works; a lost message is rung again
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # by default a worker gives up after a hundred
        broker_transport_options={"socket_timeout": 10, "socket_connect_timeout": 5},
        task_create_missing_queues=True,
    )
    return app


UNHEARD = 64
"""Doorbells that wait in a queue at most. Who hears one goes on until nothing waits, so more would only pile up."""


def ring(app: Celery, queue: str, job_ids: Sequence[str]) -> None:
    """Tell the workers of a queue that jobs are waiting, as far as doorbells do not say so already.

    Raises:
        kombu.exceptions.OperationalError: the broker does not answer.
    """
    try:
        unheard = _valkey(app.conf.broker_url).llen(queue)
    except RedisError as error:
        raise OperationalError(str(error)) from error
    for job_id in job_ids[: max(0, UNHEARD - unheard)]:  # pyright: ignore[reportOperatorIssue] (the client is not an asynchronous one)
        app.send_task(TASK, args=[job_id], queue=queue, retry=False)


@cache
def _valkey(broker_url: str) -> Redis:
    """A client of our own, which connects again by itself: kombu's channels do not outlive a restart of the broker."""
    return Redis.from_url(broker_url, socket_timeout=10, socket_connect_timeout=5)
