"""Token buckets in Valkey, shared by all processes and replicas: an atomic script takes tokens, a few at once from a large
bucket.

However many processes there are, no key gets more than its rate allows. It may get a little less: each process that serves
it can let a hundredth of the bucket's size lapse each half second.
"""

from __future__ import annotations

import threading
import time

import structlog
from redis import Redis
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

# The bucket's clock is Valkey's own, so that replicas need not agree on the time.
_TAKE = """
local now = redis.call('TIME')
now = tonumber(now[1]) + tonumber(now[2]) / 1000000
local rate, size = tonumber(ARGV[1]), tonumber(ARGV[2])
local bucket = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(bucket[1]) or size, tonumber(bucket[2]) or now
tokens = math.min(size, tokens + math.max(0, now - at) * rate)
local taken, wait = math.min(tonumber(ARGV[3]), math.floor(tokens)), 0
if taken < 1 then wait = (1 - tokens) / rate end
tokens = tokens - taken
redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens), 'at', string.format('%.6f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(size / rate * 1000) + 1000)
return {taken, string.format('%.6f', wait)}
"""
SHARE = 100
"""A hundredth of a bucket is taken at once: so many requests ask Valkey nothing, and a small bucket is still exact."""
HELD_S = 0.5
"""How long a process keeps tokens that it does not use."""
BLIND_S = 2.0
"""How long Valkey is left alone after it did not answer; meanwhile nobody is held back."""


class ValkeyBuckets:
    """Takes tokens. Without Valkey everything passes: a limit is no reason to be down."""

    def __init__(self, broker_url: str) -> None:
        self._valkey = Redis.from_url(broker_url, socket_timeout=0.25, socket_connect_timeout=0.25)
        self._take = self._valkey.register_script(_TAKE)
        self._blind_until = 0.0
        self._held: dict[str, tuple[int, float]] = {}
        self._lock = threading.Lock()

    def take_held(self, name: str) -> bool:
        """Take one token from those that this process holds already; False if it holds none."""
        with self._lock:
            count, until = self._held.get(name, (0, 0.0))
            if count < 1 or time.monotonic() > until:
                self._held.pop(name, None)
                return False
            self._held[name] = (count - 1, until)
            return True

    def take(self, name: str, rate_per_s: float, size: int) -> float:
        """Take one token; the seconds to wait for it, 0 when there was one."""
        if self.take_held(name) or time.monotonic() < self._blind_until:
            return 0.0
        try:
            arguments = [rate_per_s, size, max(1, size // SHARE)]
            taken, wait = self._take(keys=[f"mt:bucket:{name}"], args=arguments)  # pyright: ignore[reportGeneralTypeIssues, reportArgumentType, reportUnknownVariableType]
        except RedisError as error:
            self._blind_until = time.monotonic() + BLIND_S
            log.warning("rate_limit_off", error=str(error).splitlines()[0])
            return 0.0
        with self._lock:
            count, _ = self._held.get(name, (0, 0.0))
            self._held[name] = (count + max(0, int(taken) - 1), time.monotonic() + HELD_S)
        return float(wait)

    def close(self) -> None:
        """Close the connections."""
        self._valkey.close()
