"""The kinds of configuration by the word that files and environment variables use for them."""

from __future__ import annotations

from model_training.config.base_config import BaseConfig
from model_training.config.comparison_config import ComparisonConfig
from model_training.config.errors import ConfigError
from model_training.config.evaluation_config import EvaluationConfig
from model_training.config.files import ConfigFile
from model_training.config.monitoring_config import MonitoringConfig
from model_training.config.suggest import did_you_mean
from model_training.config.training_config import TrainingConfig

KINDS: dict[str, type[BaseConfig]] = {
    config.kind: config for config in (TrainingConfig, EvaluationConfig, ComparisonConfig, MonitoringConfig)
}


def config_class(kind: str) -> type[BaseConfig]:
    """The class of a kind.

    Raises ConfigError for a word that is none.
    """
    if kind not in KINDS:
        raise ConfigError(f"There is no configuration of kind {kind!r}.", hint=did_you_mean(kind, KINDS))
    return KINDS[kind]


def kind_of(file: ConfigFile) -> str:
    """The kind that a file names, else the one that knows most of its fields, `training` where several do.

    Raises ConfigError when the file names a kind that there is none of.
    """
    if file.kind is not None:
        config_class(file.kind)
        return file.kind
    names = {*file.layer.values, *(name for overlay in file.overlays.values() for name in overlay.values)}
    return max(KINDS, key=lambda kind: len(names & set(KINDS[kind].model_fields)))
