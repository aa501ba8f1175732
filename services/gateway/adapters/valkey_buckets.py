"""Token buckets in Valkey, shared by all replicas: one atomic script a request."""

from __future__ import annotations

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
local wait = 0
if tokens >= 1 then tokens = tokens - 1 else wait = (1 - tokens) / rate end
redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens), 'at', string.format('%.6f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(size / rate * 1000) + 1000)
return string.format('%.6f', wait)
"""
BLIND_S = 2.0
"""How long Valkey is left alone after it did not answer; meanwhile nobody is held back."""


class ValkeyBuckets:
    """Takes tokens. Without Valkey everything passes: a limit is no reason to be down."""

    def __init__(self, broker_url: str) -> None:
        self._valkey = Redis.from_url(broker_url, socket_timeout=0.25, socket_connect_timeout=0.25)
        self._take = self._valkey.register_script(_TAKE)
        self._blind_until = 0.0

    def take(self, name: str, rate_per_s: float, size: int) -> float:
        """Take one token; the seconds to wait for it, 0 when there was one."""
        if time.monotonic() < self._blind_until:
            return 0.0
        try:
            return float(self._take(keys=[f"mt:bucket:{name}"], args=[rate_per_s, size]))  # pyright: ignore[reportArgumentType]
        except RedisError as error:
            self._blind_until = time.monotonic() + BLIND_S
            log.warning("rate_limit_off", error=str(error).splitlines()[0])
            return 0.0

    def close(self) -> None:
        """Close the connections."""
        self._valkey.close()
