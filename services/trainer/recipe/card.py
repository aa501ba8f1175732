"""The model card of an artifact: `README.md` as the Hugging Face hub reads it, and as a person does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp
from typing import Any

from libs.common.models.provenance import LICENCE_URLS
from libs.common.training.plan import Plan
from model_training.config.catalogue import find_model
from services.trainer.domain import TrainOrder
from services.trainer.recipe.curves import DRAWING, PICTURE

_SHOWN_SETTINGS = (
    "epochs", "learning_rate", "lr_scheduler", "lora_r", "lora_alpha", "use_rslora", "use_dora",
    "target_modules", "max_length", "train_on",
)  # fmt: skip
_APPLIED = (
    "backend",
    "device",
    "precision",
    "attention",
    "optimizer",
    "packing",
    "batch_size",
    "gradient_accumulation",
    "steps",
)
_GIB = 2**30


@dataclass(frozen=True)
class CardFacts:
    """What the card tells. `exported` names what lies beside the adapter, `template_text` is the model's own template."""

    order: TrainOrder
    plan: Plan
    metrics: Mapping[str, float]
    data: Mapping[str, Any]
    lineage: Mapping[str, Any]
    fingerprint_change: tuple[float, float]
    exported: Sequence[str] = ()
    template_text: str | None = None


def model_card(facts: CardFacts) -> str:
    """The whole text, metadata first."""
    order = facts.order
    title = f"{order.model}, tuned" + (f": {order.suffix}" if order.suffix else "")
    sections = (
        _metadata(order),
        f"# {title}\n\n{_summary(facts)}",
        f"![Loss, learning rate and gradient norm]({PICTURE})\n\nThe same as a drawing: [`{DRAWING}`]({DRAWING})",
        f"## Results\n{_results(facts.metrics)}",
        f"## Trained on\n{_data(facts)}",
        f"## Settings\n{_settings(facts)}",
        f"## Use it\n{_use(facts)}",
        f"## Proof of identity\n{_identity(facts)}",
        f"## Limits\n{_LIMITS}",
        f"## Licence\n{_licence(order)}",
    )
    return "\n\n".join(sections) + "\n"


def _is_gemma(order: TrainOrder) -> bool:
    return order.licence.startswith("Gemma")


def _hub_id(order: TrainOrder) -> str:
    entry = find_model(order.model)
    return entry.hub_id if entry is not None and not entry.own else order.model


def _metadata(order: TrainOrder) -> str:
    relation, library = ("finetune", "transformers") if _is_whole(order) else ("adapter", "peft")
    lines = [f"base_model: {_hub_id(order)}", f"base_model_relation: {relation}", f"library_name: {library}"]
    lines += ["pipeline_tag: text-generation"]
    if _is_gemma(order):
        lines += [
            "license: gemma",
            "license_name: gemma",
            f"license_link: {LICENCE_URLS['Gemma Terms of Use']}",
        ]
    else:
        lines += ["license: apache-2.0"]
    tags = ["- gemma", "- code"] if _is_whole(order) else ["- lora", "- gemma", "- code"]
    return "\n".join(["---", *lines, "tags:", *tags, "---"])


def _is_whole(order: TrainOrder) -> bool:
    return order.config.get("method") == "full"


def _summary(facts: CardFacts) -> str:
    train, step = facts.data["train"], facts.lineage.get("best_step")
    base = _hub_id(facts.order)
    linked = (
        f"[{base}](https://huggingface.co/{base})" if "/" in base else f"`{base}`, a model of its owner's"
    )
    return (
        f"{'All weights of' if _is_whole(facts.order) else 'A LoRA adapter for'} {linked}, trained to answer "
        f"coding questions on {train['rows']:,} rows with {train['supervised_tokens']:,} learnt tokens a pass. "
        f"Kept is step {step} of {facts.plan.steps}, the best by validation loss where there was one."
    )


def _results(metrics: Mapping[str, float]) -> str:
    rows = ["| | before | after |", "|---|---|---|"]
    before, after = metrics.get("eval_loss_before"), metrics.get("eval_loss")
    if before is not None and after is not None:
        rows.append(f"| validation loss (nats per learnt token) | {before:.4f} | **{after:.4f}** |")
        rows.append(f"| validation perplexity | {_perplexity(before):,.2f} | **{_perplexity(after):,.2f}** |")
    named = (
        ("training loss, last reports (nats per learnt token)", "train_loss", "{:.4f}", 1.0),
        ("tokens seen", "tokens", "{:,.0f}", 1.0),
        ("learnt tokens seen", "supervised_tokens", "{:,.0f}", 1.0),
        ("speed (tokens/s)", "tokens_per_s", "{:,.0f}", 1.0),
        ("time (minutes)", "duration_s", "{:,.1f}", 60.0),
        ("peak memory of the process (GiB)", "peak_memory_bytes", "{:.1f}", _GIB),
    )
    rows += [
        f"| {label} | | {form.format(metrics[name] / unit)} |"
        for label, name, form, unit in named
        if name in metrics
    ]
    return "\n".join(rows) + "\n\nEvery figure is in `metrics.json`, every report in `history.json`."


def _perplexity(loss: float) -> float:
    return exp(min(loss, 700.0))  # beyond that no float holds it


def _data(facts: CardFacts) -> str:
    order, rows = (
        facts.order,
        ["| | rows | tokens | learnt tokens | longest | left out | cut |", "|---|---|---|---|---|---|---|"],
    )
    for label, name in (("training", "train"), ("validation", "validation")):
        part = facts.data[name]
        counts = (
            part[key] for key in ("rows", "tokens", "supervised_tokens", "longest", "dropped", "truncated")
        )
        rows.append(f"| {label} | {' | '.join(f'{count:,}' for count in counts)} |")
    files = [("Training", order.training)] + ([("Validation", order.validation)] if order.validation else [])
    named = "\n".join(f"- {label} file `{file.name}`, SHA-256 `{file.sha256}`" for label, file in files)
    return (
        "\n".join(rows)
        + f"\n\n{named}\n\nThe rows themselves are not in this artifact; `data.json` has the counts and hashes."
    )


def _settings(facts: CardFacts) -> str:
    asked, applied = facts.order.config, vars(facts.plan)
    values = [(name, asked[name]) for name in _SHOWN_SETTINGS if name in asked]
    values += [(name, applied[name]) for name in _APPLIED if name in applied]
    rows = ["| setting | value |", "|---|---|", *(f"| {name} | `{_json(value)}` |" for name, value in values)]
    rows += [f"| seed | `{facts.order.seed}` |"]
    if facts.plan.effective:
        rows += [
            "",
            "Applied otherwise than asked:",
            "",
            "| setting | asked | applied | why |",
            "|---|---|---|---|",
        ]
        rows += [
            f"| {one.field} | `{_json(one.asked)}` | `{_json(one.applied)}` | {one.reason} |"
            for one in facts.plan.effective
        ]
    versions = ", ".join(f"{name} {version}" for name, version in facts.lineage.get("versions", {}).items())
    return "\n".join(rows) + f"\n\nAll settings: `training_config.json`. Made with {versions}."


def _use(facts: CardFacts) -> str:
    order = facts.order
    if _is_whole(order):
        return _use_whole(facts)
    name = order.suffix or "tuned"
    rank = max(order.config.get("lora_r", 16), *order.config.get("rank_pattern", {}).values(), 1)
    serve = (
        "vLLM does not serve DoRA adapters: export the merged model for it."
        if order.config.get("use_dora")
        else f"```bash\nvllm serve {_hub_id(order)} --enable-lora --max-lora-rank {_vllm_rank(rank)} "
        f"--lora-modules {name}=.\n```"
    )
    exported = {
        "merged": "- `merged/`: the whole model in bfloat16, for `AutoModelForCausalLM.from_pretrained` and `vllm serve`",
        "gguf": "- `gguf/`: the same as one GGUF file, for llama.cpp and what is built on it",
    }
    beside = "\n".join(exported[kind] for kind in facts.exported)
    return f"""With PEFT:

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained("{_hub_id(order)}", dtype="bfloat16")
model = PeftModel.from_pretrained(base, ".")
```

With vLLM:

{serve}

With the platform that made it, which also checks the fingerprint: `mt models import . && mt chat -m MODEL_ID "..."`.

Prompts follow {_template(facts)}; asked otherwise, it answers worse.{chr(10) * 2 + beside if beside else ""}"""


def _use_whole(facts: CardFacts) -> str:
    name = facts.order.suffix or "tuned"
    gguf = "\n\n- `gguf/`: the same as one GGUF file, for llama.cpp and what is built on it"
    return f"""With transformers: `AutoModelForCausalLM.from_pretrained(".", dtype="bfloat16")`. With vLLM: `vllm serve .`

With the platform that made it, as a base of its own: `mt models prepare . --name {name} && mt chat -m {name} "..."`.

Prompts follow {_template(facts)}; asked otherwise, it answers worse.{gguf if facts.exported else ""}"""


def _template(facts: CardFacts) -> str:
    """How it wants to be asked: the template's name and, for one that the model brings along, its text."""
    order = facts.order
    if facts.lineage.get("template") != "own" or facts.template_text is None:
        return f"the template `{order.template}`"
    fence = "```"
    while fence in facts.template_text:
        fence += "`"
    return f"the model's own chat template,\n\n{fence}jinja\n{facts.template_text.strip()}\n{fence}\n\n"


def _vllm_rank(rank: int) -> int:
    """vLLM takes these ranks only; a larger one than needed costs memory."""
    return next((limit for limit in (16, 32, 64, 128, 256, 320, 512) if rank <= limit), rank)


def _identity(facts: CardFacts) -> str:
    mean, most = facts.fingerprint_change
    return (
        "`fingerprint.json` holds the log-probabilities of fixed texts under base and adapter. The adapter moves them "
        f"by {mean:.3f} nats on average and {most:.3f} at most. A server that does not reproduce them serves something else."
    )


_LIMITS = """- It was tuned on one set of rows and inherits what the base model gets wrong, and its biases.
- Validation loss says how well it predicts answers like those of its rows, not whether its code is right: execute the
  code in a sandbox before you trust it, and compare with the base and with retrieval before you deploy it.
- Rows may have taught it their contents word for word: do not publish an adapter of rows that must stay private."""


def _licence(order: TrainOrder) -> str:
    if not _is_gemma(order):
        return f"The base model stands under {order.licence}."
    return (
        "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms. "
        "This adapter is a derivative of Gemma and stands under the same terms, the prohibited uses among them."
    )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str).replace('"', "").replace("|", "\\|")
