"""Runs the integration tests on PostgreSQL and Redis from their images, each in a container: `make test-containers`."""

from __future__ import annotations

import os
import sys

import pytest
from testcontainers.community.postgres import PostgresContainer
from testcontainers.community.redis import RedisContainer

POSTGRES = os.environ.get("MT_TEST_POSTGRES_IMAGE", "postgres:18")
REDIS = os.environ.get("MT_TEST_REDIS_IMAGE", "redis:8")


def main() -> int:
    """Start both, run pytest with the arguments given, and stop both."""
    with PostgresContainer(POSTGRES, driver="psycopg") as database, RedisContainer(REDIS) as broker:
        address = f"{broker.get_container_host_ip()}:{broker.get_exposed_port(broker.port)}"
        os.environ["MT_TEST_DATABASE_URL"] = database.get_connection_url()
        os.environ["MT_TEST_BROKER_URL"] = f"redis://{address}/0"
        return pytest.main(sys.argv[1:] or ["-q", "tests/integration", "-m", "not slow and not gpu"])


if __name__ == "__main__":
    sys.exit(main())
