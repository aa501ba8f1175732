"""The whole platform on one machine: PostgreSQL, Valkey and every service as processes under one supervisor."""

from __future__ import annotations

from model_training.embedded.platform import Platform
from model_training.embedded.state import PlatformState, ServiceState
from model_training.home import Home, default_home

__all__ = ["Home", "Platform", "PlatformState", "ServiceState", "default_home"]
