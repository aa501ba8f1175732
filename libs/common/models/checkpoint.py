"""Looks at a directory of weights before it becomes a model: is it whole, safe to read, and one that the platform runs?

Reads headers and settings only, never a tensor. Pickled weights and models that bring code of their own are refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

from libs.common.errors import InvalidInput
from libs.common.models.own_template import read_own_template
from model_training.config.catalogue import OWN_PREFIX, CatalogueEntry, Licence

INDEX_FILE = "model.safetensors.index.json"
WEIGHTS_FILE = "model.safetensors"

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
_KEPT_SUFFIXES = (".json", ".jinja", ".md")
_KEPT_NAMES = re.compile(r"(LICEN[SC]E|NOTICE|USE_POLICY)(\.\w+)?", re.IGNORECASE)
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_SIZE_TOLERANCE = 1.5


@dataclass(frozen=True)
class Checkpoint:
    """What a directory holds. `parameters` counts all weights, `context_length` is in tokens."""

    model_type: str
    parameters: int
    context_length: int
    chat_template: bool

    def entry(self, name: str, template: str | None) -> dict[str, Any]:
        """How the catalogue lists the model under a name of its own."""
        chat = "gemma4" if self.model_type.startswith("gemma4") else "gemma"
        entry = CatalogueEntry(
            name=name,
            hub_id=f"{OWN_PREFIX}{name}",
            parameters=self.parameters,
            context_length=self.context_length,
            template=template or (chat if self.chat_template else "qa"),
            licence=licence_of(self.model_type),
            instructed=template not in (None, "qa") or (template is None and self.chat_template),
        )
        return asdict(entry)


def licence_of(model_type: str) -> Licence:
    """The licence that every model of this architecture inherits from Google's."""
    return "Apache-2.0" if model_type.startswith("gemma4") else "Gemma Terms of Use"


def beside_weights(names: Iterable[str]) -> list[str]:
    """Of a model's files those that are kept besides its weights: settings, tokenizer, templates, licence, card."""
    return sorted(
        name
        for name in names
        if _PLAIN_NAME.fullmatch(name) and (name.endswith(_KEPT_SUFFIXES) or _KEPT_NAMES.fullmatch(name))
    )


def weight_files(names: Iterable[str], index: dict[str, Any] | None, where: str) -> list[str]:
    """The safetensors files that make the model, from its index if it has one.

    Raises:
        InvalidInput: there are none, or one that the index names is missing.
    """
    present = set(names)
    wanted = sorted(set(index.get("weight_map", {}).values())) if index else [WEIGHTS_FILE]
    missing = [name for name in wanted if name not in present or not _PLAIN_NAME.fullmatch(name)]
    if wanted and not missing:
        return wanted
    if index:
        raise _unusable(f"{where} lacks {missing[0] if missing else 'any shard'}, which {INDEX_FILE} names")
    pickles = sorted(name for name in present if name.endswith(_PICKLES))
    if pickles:
        raise _unusable(
            f"{where} holds its weights only as {pickles[0]}, which is a pickle; reading one can run any code",
            "Bring the model as safetensors.",
        )
    if "adapter_config.json" in present:
        raise _unusable(f"{where} holds an adapter and no model", "Bring it in with `mt models import`.")
    raise _unusable(f"{where} holds no {WEIGHTS_FILE}")


def read_index(directory: Path) -> dict[str, Any] | None:
    """The list of shards, if the weights are in several files."""
    return _read_json(directory / INDEX_FILE) if (directory / INDEX_FILE).is_file() else None


def require_usable_config(directory: Path, where: str) -> dict[str, Any]:
    """The model's config.json.

    Raises:
        InvalidInput: it is not a Gemma in 16 or 32 bits that transformers knows without foreign code.
    """
    if not (directory / "config.json").is_file():
        raise _unusable(f"{where} holds no config.json")
    config = _read_json(directory / "config.json")
    kind = str(config.get("model_type"))
    if config.get("auto_map"):
        raise _unusable(f"{where} needs code of its own (auto_map in config.json), which is never run")
    if not kind.startswith("gemma"):
        raise _unusable(f"{where} holds a model of the kind {kind!r}; the platform trains and serves Gemma")
    if quantised := config.get("quantization_config"):
        method = quantised.get("quant_method") if isinstance(quantised, dict) else quantised
        raise _unusable(
            f"{where} holds weights that are quantised ({method})",
            "Bring the 16-bit model; training quantises it itself when load_in_4bit is set.",
        )
    return config


def inspect(directory: Path, where: str) -> Checkpoint:
    """Read settings and headers.

    Args:
        directory: the files.
        where: what the person knows it as, for the sentence.

    Raises:
        InvalidInput: something is missing, cut off, or not of a kind that the platform runs.
    """
    config = require_usable_config(directory, where)
    tokenizer = directory / "tokenizer.json"
    if not tokenizer.is_file() or b'"<bos>"' not in tokenizer.read_bytes():
        raise _unusable(f"{where} holds no tokenizer.json with Gemma's <bos> token")
    names = [path.name for path in directory.iterdir() if path.is_file()]
    weights = weight_files(names, read_index(directory), where)
    text = config.get("text_config") or config
    return Checkpoint(
        model_type=config["model_type"],
        parameters=sum(_count(directory / name, where) for name in weights),
        context_length=int(text.get("max_position_embeddings", 8192)),
        chat_template=read_own_template(directory) is not None,
    )


def require_size_of(entry: CatalogueEntry, found: Checkpoint, where: str) -> None:
    """Refuse a model under the name of one of quite another size.

    Raises:
        InvalidInput: it cannot be that model.
    """
    ratio = found.parameters / entry.parameters
    if not 1 / _SIZE_TOLERANCE < ratio < _SIZE_TOLERANCE:
        raise InvalidInput(
            f"{where} holds {found.parameters / 1e6:,.0f} million parameters; {entry.name} has about "
            f"{entry.parameters / 1e6:,.0f} million.",
            param="source",
            hint="Give it a name of its own with --name.",
        )


def _count(path: Path, where: str) -> int:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as weights:
            return sum(prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _unusable(f"{path.name} in {where} is damaged ({error})") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise _unusable(f"{path.name} is not JSON ({error})") from error


def _unusable(
    why: str, hint: str = "Bring a Gemma model as config.json, tokenizer.json and safetensors."
) -> InvalidInput:
    return InvalidInput(f"{why}.", param="source", hint=hint)
