"""What can go wrong while jobs run. Each fault does its harm to a site and says what it did."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from functools import partial

from libs.common.jobs.queue import make_celery, ring
from tests.integration.chaos.site import KEEPERS, LEASE_S, WORKERS, Site, send

Fault = Callable[[Site, random.Random, list[str]], str]
"""Arguments: the site, the source of chance, the ids of the round's jobs."""

PAST_THE_LEASE_S = 1.5 * LEASE_S


def _kill(site: Site, rng: random.Random, jobs: list[str], *, name: str | None) -> str:
    victim = name or rng.choice(WORKERS)
    hit = site.signal(victim, signal.SIGKILL, descendants=victim == "postgres")
    return f"kill -9 {victim}" if hit else f"{victim} was down already"


def _kill_one_process(site: Site, rng: random.Random, jobs: list[str]) -> str:
    processes = site.processes_of("gateway")
    if not processes:
        return "the gateway was down already"
    send(rng.choice(processes), signal.SIGKILL)
    return f"kill -9 one of {len(processes)} processes of the gateway"


def _stop(site: Site, rng: random.Random, jobs: list[str], *, names: tuple[str, ...]) -> str:
    hit = [name for name in names if site.signal(name, signal.SIGSTOP, descendants=name == "gateway")]
    time.sleep(PAST_THE_LEASE_S)
    for name in hit:
        site.signal(name, signal.SIGCONT, descendants=name == "gateway")
    return f"SIGSTOP of {' and '.join(hit) or 'nobody'} for {PAST_THE_LEASE_S:.1f} s"


def _kill_keepers(site: Site, rng: random.Random, jobs: list[str]) -> str:
    victims = KEEPERS if rng.random() < 0.5 else (rng.choice(KEEPERS),)
    hit = [name for name in victims if site.signal(name, signal.SIGKILL)]
    return f"kill -9 {' and '.join(hit) or 'nobody'}"


def _stop_worker(site: Site, rng: random.Random, jobs: list[str]) -> str:
    """Stop a worker until another one has its job, if that can be waited for: then it wakes up as a zombie."""
    victim = rng.choice(WORKERS)
    held = site.held_by(victim)
    if not site.signal(victim, signal.SIGSTOP):
        return f"{victim} was down already"
    began = time.monotonic()
    replaced = False
    while (passed_s := time.monotonic() - began) < (3 * LEASE_S if held else PAST_THE_LEASE_S):
        time.sleep(0.05)
        replaced = held is not None and site.is_held_under_another_fence(*held)
        if replaced and passed_s > PAST_THE_LEASE_S:
            break
    site.signal(victim, signal.SIGCONT)
    return f"SIGSTOP of {victim} for {passed_s:.1f} s{', its job in other hands' if replaced else ''}"


def _ask(site: Site, rng: random.Random, jobs: list[str], *, name: str | None, how: signal.Signals) -> str:
    victim = name or rng.choice(WORKERS)
    hit = site.signal(victim, how)
    return f"{how.name} to {victim}" if hit else f"{victim} was down already"


def _child(site: Site, rng: random.Random, jobs: list[str], *, hold: bool) -> str:
    children = site.children()
    if not children:
        return "there was no child to harm"
    victim = rng.choice(children)
    if not hold:
        send(victim, signal.SIGKILL)
        return "kill -9 a child"
    send(victim, signal.SIGSTOP)
    time.sleep(PAST_THE_LEASE_S)
    send(victim, signal.SIGCONT)
    return f"SIGSTOP of a child for {PAST_THE_LEASE_S:.1f} s"


def _deliver_twice(site: Site, rng: random.Random, jobs: list[str]) -> str:
    celery = make_celery(site.broker_url)
    ring(celery, "train", jobs * 2)
    celery.close()
    return f"{2 * len(jobs)} messages delivered again"


def _empty_broker(site: Site, rng: random.Random, jobs: list[str]) -> str:
    site.broker().flushall()
    return "FLUSHALL"


def _drop_keeper(site: Site, rng: random.Random, jobs: list[str]) -> str:
    return "the keeper's connection ended" if site.drop_keeper() else "there was no keeper"


def _nothing(site: Site, rng: random.Random, jobs: list[str]) -> str:
    return "a job fills its disk quota"


FAULTS: dict[str, Fault] = {
    "kill_worker": partial(_kill, name=None),
    "stop_worker": _stop_worker,
    "terminate_worker": partial(_ask, name=None, how=signal.SIGTERM),
    "kill_child": partial(_child, hold=False),
    "stop_child": partial(_child, hold=True),
    "kill_gateway": partial(_kill, name="gateway"),
    "kill_gateway_process": _kill_one_process,
    "stop_gateway": partial(_stop, names=("gateway",)),
    "kill_keepers": _kill_keepers,
    "stop_keepers": partial(_stop, names=KEEPERS),
    "kill_postgres": partial(_kill, name="postgres"),
    "restart_postgres": partial(_ask, name="postgres", how=signal.SIGINT),
    "stop_postgres": partial(_stop, names=("postgres",)),
    "kill_valkey": partial(_kill, name="valkey"),
    "restart_valkey": partial(_ask, name="valkey", how=signal.SIGTERM),
    "stop_valkey": partial(_stop, names=("valkey",)),
    "deliver_twice": _deliver_twice,
    "empty_broker": _empty_broker,
    "drop_keeper": _drop_keeper,
    "fill_disk": _nothing,  # the round adds a job that does it
}
