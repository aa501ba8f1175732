"""What every configuration can do: check itself, be loaded from layers, be changed, be saved, say where values came from.

Layers, later ones win: defaults, what a file `extends`, the file, its overlay for the environment (`MT_ENV`), environment
variables (`MT_TRAINING__LEARNING_RATE`), explicit overrides. A file looks like this::

    kind: training            # whose fields these are; may be left out
    extends: cpu-small        # a preset, a path relative to this file, or a list of them
    learning_rate: 1e-4
    overlays:
      production:             # used when MT_ENV=production; without MT_ENV, `dev` is used
        epochs: 3

An overlay stands right above its own file, so what a file says wins over all that it extends, overlays included. Lists
are replaced by later layers, never merged. Paths among the values are relative to the working directory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any, ClassVar, Self

import yaml
from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from model_training.config.errors import ConfigError, Fault
from model_training.config.faults import (
    parse_text,
    refuse,
    takes_truth_value,
    unknown_fields,
    validation_faults,
)
from model_training.config.files import SUFFIXES, Layer
from model_training.config.layers import (
    current_environment,
    environment_layer,
    file_layers,
    override_layer,
)
from model_training.config.sources import ARGUMENT, ASSIGNMENT, DEFAULT, Source


class BaseConfig(BaseModel):
    """A checked set of values. An instance that exists has passed every rule, and a refused change leaves it as it was.

    Two kinds of rules hold. A **field rule** concerns one value (`learning_rate` above 0). A **dependent rule** concerns
    several (`max_length` within the context of `model_name`). Both are checked when an instance is made and again at
    every assignment, `config.learning_rate = 1e-4`: the whole configuration with the new value is checked first, and only
    then is the value stored, so a failing assignment is rolled back and raises a ConfigError.

    Where a dependent rule would refuse the first of several assignments although their end is legal, either assign in
    the other order or change them at once with `config.update(model_name="gemma-2b", max_length=4096)`, which checks
    only the end. Every legal configuration can be reached from every other one this way.

    A list that is changed in place (`config.test_queries.append(…)`) is not seen; assign a new one, or call `check()`.
    """

    model_config = ConfigDict(
        extra="forbid",
        allow_inf_nan=False,
        protected_namespaces=(),
        use_attribute_docstrings=True,
        validate_default=False,
    )

    kind: ClassVar[str] = "base"
    """The word for this configuration in files (`kind: training`) and environment variables (`MT_TRAINING__…`)."""

    also_known_as: ClassVar[dict[str, str]] = {}
    """Names that other tools use for a field, so that a message can say what it is called here."""

    _sources: dict[str, Source] = PrivateAttr(default_factory=dict)

    if not TYPE_CHECKING:  # type checkers see the signature that pydantic derives from the fields

        def __init__(self, /, **values: Any) -> None:
            """Make a configuration from explicit values and defaults; reads no file and no environment variable."""
            self._fill(values, dict.fromkeys(values, ARGUMENT))

        def __setattr__(self, name: str, value: Any) -> None:
            """Assign one field; see the class for what is checked."""
            if name.startswith("_"):
                super().__setattr__(name, value)
            else:
                self.update(**{name: value})

    def __eq__(self, other: object) -> bool:
        """Equal values of the same class; where they came from does not count."""
        return type(other) is type(self) and other.model_dump() == self.model_dump()  # type: ignore[attr-defined]

    __hash__ = None  # type: ignore[assignment]  # it can change

    @classmethod
    def create_default(cls) -> Self:
        """The defaults, as far as environment variables do not say otherwise. What you assign afterwards wins."""
        return cls.load()

    @classmethod
    def load(
        cls,
        source: str | os.PathLike[str] | None = None,
        *,
        environment: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Self:
        """The configuration that all layers make together.

        `source` is a path or a preset's name. `environment` chooses the overlay and defaults to `MT_ENV`, then to `dev`.
        `env` stands in for the environment variables of the process.

        Raises ConfigError that names the field, its value, where it was written, the rule and the way out.
        """
        env = os.environ if env is None else env
        layers = [
            *file_layers(source, current_environment(environment, env), cls.kind),
            cls._parsed(environment_layer(cls.kind, env)),
            override_layer(overrides),
        ]
        values: dict[str, Any] = {}
        sources: dict[str, Source] = {}
        for layer in layers:
            values.update(layer.values)
            sources.update(layer.sources)
        return cls._build(values, sources)

    @classmethod
    def parse_settings(cls, settings: list[str]) -> dict[str, Any]:
        """Values from texts such as `epochs=3`, as a command line has them; for `overrides` and `update`.

        Raises ConfigError for a text without `=`. Names and values are checked where they are used.
        """
        texts: dict[str, str] = {}
        for setting in settings:
            name, equals, text = setting.partition("=")
            if not equals or not name.strip():
                raise ConfigError(
                    f"{setting!r} sets nothing.", hint="Write field=value, for example epochs=3."
                )
            texts[name.strip()] = text.strip()
        return {name: parse_text(cls.model_fields.get(name), text) for name, text in texts.items()}

    def update(self, **values: Any) -> None:
        """Assign several fields at once; either all of them or, with a ConfigError, none."""
        sources = {**self._sources, **dict.fromkeys(values, ASSIGNMENT)}
        checked = type(self)._build({**self._values(), **values}, sources)
        for name in values:
            object.__setattr__(self, name, checked.__dict__[name])
        self.__pydantic_fields_set__.update(values)
        self._sources = sources

    def check(self) -> None:
        """Check every rule again, for lists that were changed in place and for a machine that has changed.

        Raises ConfigError when one is broken.
        """
        self._build(self._values(), self._sources)

    def rules(self) -> Iterator[Fault]:
        """The dependent rules that the values break. A configuration with such rules overrides this."""
        yield from ()

    def source_of(self, field: str) -> str:
        """Where a value came from: `default`, `file run.yaml`, `environment MT_TRAINING__EPOCHS`, `assignment`, …

        Raises ConfigError for an unknown field.
        """
        faults = unknown_fields(type(self).model_fields, type(self).also_known_as, {field: DEFAULT})
        if faults:
            raise ConfigError.of(type(self).__name__, faults)
        return str(self._sources.get(field, DEFAULT))

    def sources(self) -> dict[str, Source]:
        """The source of every field, in the order of the fields."""
        return {name: self._sources.get(name, DEFAULT) for name in type(self).model_fields}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all values to a `.yaml`, `.yml` or `.json` file that `load` reads; replaces it whole or not at all.

        Raises ConfigError when the ending is another one or the file cannot be written.
        """
        target = Path(path)
        suffix = target.suffix.lower()
        if suffix not in SUFFIXES:
            raise ConfigError(
                f"{target} is no name for a configuration.", hint=f"End it in {' or '.join(SUFFIXES)}."
            )
        values = {"kind": self.kind, **self.model_dump(mode="json")}
        _replace_file(target, _json_text(values) if suffix == ".json" else _yaml_text(values))

    @field_validator("*", mode="before")
    @classmethod
    def _plain_value(cls, value: Any, info: ValidationInfo) -> Any:
        """Paths become text; true and false do not pass as 1 and 0."""
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        field = cls.model_fields.get(info.field_name or "")
        if isinstance(value, bool) and field is not None and not takes_truth_value(field):
            raise refuse("must not be true or false")
        return value

    @classmethod
    def _parsed(cls, layer: Layer) -> Layer:
        values = {name: parse_text(cls.model_fields.get(name), text) for name, text in layer.values.items()}
        return Layer(values, layer.sources)

    @classmethod
    def _build(cls, values: Mapping[str, Any], sources: Mapping[str, Source]) -> Self:
        instance = cls.__new__(cls)
        instance._fill(values, sources)
        return instance

    def _fill(self, values: Mapping[str, Any], sources: Mapping[str, Source]) -> None:
        """Check `values` and make this instance hold them."""
        fields = type(self).model_fields
        faults = unknown_fields(
            fields, type(self).also_known_as, {n: sources.get(n, DEFAULT) for n in values}
        )
        try:
            known = {name: value for name, value in values.items() if name in fields}
            self.__pydantic_validator__.validate_python(known, self_instance=self)
        except ValidationError as error:
            faults += validation_faults(error, fields, sources)
        if not faults:
            faults = [_located(fault, sources) for fault in self.rules()]
        if faults:
            raise ConfigError.of(type(self).__name__, faults)
        self._sources = {name: source for name, source in sources.items() if source != DEFAULT}

    def _values(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in type(self).model_fields}


def _located(fault: Fault, sources: Mapping[str, Source]) -> Fault:
    source = sources.get(fault.field, DEFAULT)
    where = fault.where or (None if source == DEFAULT else source.where)
    return Fault(fault.field, fault.rule, fault.value, fault.hint, where)


def _json_text(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _yaml_text(values: Mapping[str, Any]) -> str:
    """YAML as people like to read it. PyYAML writes some line separators (U+0085) so that it reads others; then escaped."""
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    return text if yaml.safe_load(text) == values else yaml.safe_dump(values, sort_keys=False)


def _replace_file(target: Path, text: str) -> None:
    """Write beside the target, then rename, so that nobody ever reads half a file."""
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(
            "w", encoding="utf-8", dir=target.parent, prefix=f".{target.name}.", delete=False
        ) as file:
            temporary = Path(file.name)
            file.write(text)
        os.replace(temporary, target)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise ConfigError(
            f"{target} cannot be written: {error.strerror}.", hint="Choose another place."
        ) from error


__all__ = ["BaseConfig", "ConfigError", "Fault", "PydanticCustomError", "refuse"]
