"""The inventory's services and tasks of ours. See `inventory`, which is what others import."""

from __future__ import annotations

from deploy.inventory_records import Image, Kind, Mount, Part, Port, Probe, Resources, Secret

PORT_BASE = 8000
USER = 10001
"""User and group inside our images; any other works too (files are readable by all, writable paths are volumes)."""

HOME = "/var/lib/model-training"
MODELS = "/var/lib/models"
SECRETS = "/run/secrets"
"""Where secrets lie as files, one a secret, each named like its variable in small letters."""

_HOME = Mount("home", HOME)
_HOME_TO_READ = Mount("home", HOME, read_only=True)
_MODELS = Mount("models", MODELS, read_only=True)

_PROCESS = {"MT_SECRETS_DIR": SECRETS, "PYTHONUNBUFFERED": "1"}
_COMMON = _PROCESS | {"MT_HOME": HOME, "MT_MODEL_DIR": MODELS, "MT_BIND_HOST": "0.0.0.0"}
_THREADS = {"GOMP_SPINCOUNT": "1000"}
"""OpenMP threads that spin while they wait for each other make several processes on few cores many times slower."""
_
