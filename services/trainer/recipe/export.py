"""What an artifact holds besides its adapter, if asked for: the merged model in 16 bits, and the same as one GGUF file.

An export that is not possible takes nothing from the adapter: it is left out, and the job says which and why.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from libs.common.errors import PlatformError
from libs.common.models import checkpoint
from libs.common.models.adapters.gguf_export import GgufLabel, write_gguf
from libs.common.models.errors import disk_errors, require_room
from libs.common.models.prompting import PromptTemplate
from libs.common.models.store import LICENCE_FILES
from model_training.contracts.fine_tuning import EffectiveSetting
from services.trainer.domain import TrainOrder
from services.trainer.recipe.export_merge import merge_weights

Kind = Literal["merged", "gguf"]
MERGED, GGUF = "merged", "gguf"


@dataclass(frozen=True)
class Exported:
    """What came of one request. `reason` says why it was left out; None: it is there, under its kind's name."""

    kind: Kind
    bytes: int
    seconds: float
    reason: str | None = None

    @property
    def sentence(self) -> str:
        """For the job's events."""
        if self.reason is not None:
            return f"The artifact has no {self.kind}/: {self.reason}"
        return f"Wrote {self.kind}/, {self.bytes / 1e6:,.0f} MB, in {self.seconds:.0f} s."


def export(
    directory: Path, order: TrainOrder, template: PromptTemplate, wanted: Sequence[Kind]
) -> list[Exported]:
    """Add `merged/` and `gguf/` to an artifact that holds the adapter already.

    The memory that this takes is that of the adapter and three copies of the largest tensor; the base is not loaded.

    Returns:
        One entry for each kind wanted.
    """
    if not wanted:
        return []
    if (
        order.config.get("method") == "full"
    ):  # the artifact is the model already; its settings exclude `merged`
        target = directory / GGUF
        return [_attempt(GGUF, target, lambda: _write_gguf(target, directory, order, template))]
    merged = directory / MERGED
    made = {MERGED: _attempt(MERGED, merged, lambda: _write_merged(merged, directory, order, template))}
    if GGUF in wanted:
        target = directory / GGUF
        if made[MERGED].reason is None:
            made[GGUF] = _attempt(GGUF, target, lambda: _write_gguf(target, merged, order, template))
        else:
            made[GGUF] = Exported(GGUF, 0, 0.0, made[MERGED].reason)
    if MERGED not in wanted:
        shutil.rmtree(merged, ignore_errors=True)
    return [made[kind] for kind in wanted]


def applied_setting(exported: Sequence[Exported]) -> list[EffectiveSetting]:
    """The line of the asked-and-applied report, if something was left out."""
    missing = [one for one in exported if one.reason is not None]
    if not missing:
        return []
    there = [one.kind for one in exported if one.reason is None]
    why = " ".join(dict.fromkeys(one.reason or "" for one in missing))
    return [EffectiveSetting(field="export", asked=[one.kind for one in exported], applied=there, reason=why)]


def _attempt(kind: Kind, target: Path, write: Any) -> Exported:
    began = time.monotonic()
    try:
        with disk_errors(target.parent):
            target.mkdir()
            write()
    except (PlatformError, ValueError) as error:
        shutil.rmtree(target, ignore_errors=True)
        said = error.detail if isinstance(error, PlatformError) else f"It cannot be made: {error}."
        return Exported(kind, 0, time.monotonic() - began, said)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    return Exported(kind, size, time.monotonic() - began)


def _write_merged(target: Path, adapter: Path, order: TrainOrder, template: PromptTemplate) -> None:
    base = Path(order.model_path)
    require_room(target, sum(path.stat().st_size for path in base.glob("*.safetensors")))
    merge_weights(base, adapter, target)
    complete(target, base, template)


def complete(target: Path, base: Path, template: PromptTemplate) -> None:
    """Put beside the 16-bit weights in a directory all that a model needs: the base's settings, tokenizer and licence, the
    template that it was trained with, and the tokens that end its answers."""
    names = [path.name for path in base.iterdir() if path.is_file()]
    for name in {*checkpoint.beside_weights(names), *(set(LICENCE_FILES) & set(names))} - {"README.md"}:
        if not (target / name).exists():
            shutil.copyfile(base / name, target / name)
    _change_json(target / "config.json", dtype="bfloat16")
    if template.own is None:
        (target / "chat_template.jinja").write_text(chat_template(template), encoding="utf-8")
    _change_json(target / "generation_config.json", eos_token_id=_end_ids(target, template))


def _write_gguf(target: Path, merged: Path, order: TrainOrder, template: PromptTemplate) -> None:
    require_room(target, sum(path.stat().st_size for path in merged.glob("*.safetensors")))
    name = "-".join(part for part in (order.model, order.suffix) if part)
    label = GgufLabel(name, order.licence, chat_template(template), template.answer_end)
    write_gguf(merged, target / f"{name}-bf16.gguf", label)
    for file in LICENCE_FILES:
        if (merged / file).is_file():
            shutil.copyfile(merged / file, target / file)


def chat_template(template: PromptTemplate) -> str:
    """The template that the adapter was trained with, as servers read it: begin-of-text stands in it."""
    return template.own.text if template.own else "{{ bos_token }}" + template.text


def _end_ids(merged: Path, template: PromptTemplate) -> list[int]:
    """Tokens that end an answer: those of the base, and the one that this training taught."""
    known = _read_json(merged / "generation_config.json").get("eos_token_id")
    known = known if known is not None else _read_json(merged / "config.json").get("eos_token_id")
    ids = known if isinstance(known, list) else [known] if known is not None else []
    special = _read_json(merged / "tokenizer.json").get("added_tokens", [])
    taught = [token["id"] for token in special if token["content"] == template.answer_end]
    return list(dict.fromkeys([*ids, *taught]))


def _change_json(path: Path, **values: Any) -> None:
    text = json.dumps(_read_json(path) | values, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
