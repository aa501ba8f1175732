"""Makes the secrets of a new cluster: `python -m deploy.k8s.make_secrets | kubectl apply -f -`.

Once only: the database keeps the password that it was made with. With stores of somebody else, give their addresses; a
cluster with a secret manager makes the same names there instead. Nothing is written to disk here.
"""

from __future__ import annotations

import argparse
import secrets
import sys

import yaml

from deploy import inventory
from deploy.inventory_records import Secret
from deploy.k8s.pods import NAMESPACE, Manifest, manifest, secret_name
from deploy.k8s.scaling import CONNECTION_KEY, CONNECTION_SECRET

_ELSEWHERE = {Secret.GRAFANA_PASSWORD}
"""Of parts that a cluster has by itself."""


def values(database: str | None, broker: str | None) -> dict[str, str]:
    """Every secret's value by the name of its file; random but for the addresses."""
    made = {one.value: secrets.token_urlsafe(32) for one in Secret if one not in _ELSEWHERE}
    made[Secret.BOOTSTRAP_API_KEY] = f"mt-{secrets.token_urlsafe(32)}"
    postgres, redis = inventory.PARTS["postgres"], inventory.PARTS["redis"]
    user, name = postgres.env["POSTGRES_USER"], postgres.env["POSTGRES_DB"]
    address = f"{user}:{made[Secret.POSTGRES_PASSWORD]}@{postgres.name}:{postgres.port}/{name}"
    made[Secret.DATABASE_URL] = database or f"postgresql+psycopg://{address}"
    made[Secret.BROKER_URL] = broker or f"redis://:{made[Secret.REDIS_PASSWORD]}@{redis.name}:{redis.port}/0"
    return {str(name): value for name, value in made.items()}


def manifests(made: dict[str, str]) -> list[Manifest]:
    """A Kubernetes secret for each value, so that a part is given its own and no other; and KEDA's connection."""
    ours = [_secret(secret_name(Secret(name)), {name: value}) for name, value in made.items()]
    plain = made[Secret.DATABASE_URL].replace("postgresql+psycopg://", "postgresql://")
    tls = "" if "?" in plain else "?sslmode=prefer"
    return [*ours, _secret(CONNECTION_SECRET, {CONNECTION_KEY: plain + tls})]


def _secret(name: str, data: dict[str, str]) -> Manifest:
    made = manifest("v1", "Secret", name, type="Opaque", stringData=data)
    made["metadata"]["namespace"] = NAMESPACE
    return made


def main() -> None:
    """Write the manifests to standard output."""
    parser = argparse.ArgumentParser(prog="python -m deploy.k8s.make_secrets", description=__doc__)
    parser.add_argument("--database-url", help="postgresql+psycopg://… of a managed PostgreSQL")
    parser.add_argument("--broker-url", help="rediss://… of a managed Redis")
    given = parser.parse_args()
    made = manifests(values(given.database_url, given.broker_url))
    yaml.safe_dump_all(made, sys.stdout, sort_keys=False)


if __name__ == "__main__":
    main()
