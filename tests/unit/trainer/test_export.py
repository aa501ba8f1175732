"""The merged model and the GGUF file say what base and adapter say; what cannot be exported is left out and named."""

from __future__ import annotations

import errno
import json
import mmap
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGMLQuantizationType
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from libs.common.errors import JobFailure
from libs.common.models.adapters.gemma_checkpoint import write_checkpoint
from libs.common.models.adapters.gemma_tokenizer import build_tokenizer
from libs.common.models.adapters.gguf_export import GgufLabel, write_gguf
from libs.common.models.adapters.gguf_file import GgufModel, read_gguf
from libs.common.models.prompting import encode_prompt, load_template
from libs.common.testing.tiny_gemma import write_tiny_gemma
from services.trainer.domain import TrainOrder
from services.trainer.recipe import export as exporting
from services.trainer.recipe.export import applied_setting, export
from services.trainer.recipe.export_merge import merge_weights

KINDS: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "patterns": {"rank_pattern": {"q_proj": 2, "layers.0.mlp.up_proj": 6}, "alpha_pattern": {"v_proj": 3}},
}
TEXTS = ("Question: What is first of 3?\nAnswer: first(3)", "def f(x):\n    return x + 1\n\n")


def make_adapter(base: Path, directory: Path, **settings: Any) -> Path:
    """An adapter with random values on all linear layers."""
    torch.manual_seed(1)
    config = LoraConfig(
        r=4, lora_alpha=8, target_modules="all-linear", task_type=TaskType.CAUSAL_LM, **settings
    )
    model: Any = get_peft_model(load(base), config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.05)
        elif "magnitude" in name:
            parameter.data *= 1.1
    model.save_pretrained(directory)
    return directory


def load(directory: Path, **more: Any) -> Any:
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, **more).eval()


@torch.no_grad()
def log_probabilities(model: Any, base: Path) -> torch.Tensor:
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    rows = [model(torch.tensor([tokenizer.encode(text)])).logits[0] for text in TEXTS]
    return torch.log_softmax(torch.cat(rows).float(), dim=-1)


def gguf_of(directory: Path) -> GgufModel:
    (file,) = (directory / "gguf").glob("*.gguf")
    with file.open("rb") as stream:
        return read_gguf(memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)))


@pytest.fixture(scope="module")
def exported(tiny_order: Callable[..., TrainOrder], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact with everything in it. Its base carries a licence, and a card that is not ours to pass on."""
    order = tiny_order()
    base = tmp_path_factory.mktemp("licensed") / "base"
    shutil.copytree(order.model_path, base)
    for name in ("GEMMA_TERMS.html", "NOTICE.md", "source.json", "README.md"):
        (base / name).write_text("{}", encoding="utf-8")
    directory = make_adapter(base, tmp_path_factory.mktemp("artifact"))
    made = export(
        directory, replace(order, model_path=str(base)), load_template("qa", base), ["merged", "gguf"]
    )
    assert [(one.kind, one.reason) for one in made] == [("merged", None), ("gguf", None)]
    assert all(one.bytes > 100_000 and f"Wrote {one.kind}/" in one.sentence for one in made)
    assert applied_setting(made) == []
    return directory


@pytest.mark.parametrize("kind", KINDS)
def test_merged_weights_are_base_and_adapter_rounded_once(
    tiny_gemma: Path, tmp_path: Path, kind: str
) -> None:
    adapter = make_adapter(tiny_gemma, tmp_path / "adapter", **KINDS[kind])
    whole: Any = PeftModel.from_pretrained(load(tiny_gemma), str(adapter))
    expected = whole.merge_and_unload().state_dict()
    merge_weights(tiny_gemma, adapter, tmp_path)
    with safe_open(tmp_path / "model.safetensors", framework="pt") as merged:
        for name in merged.keys():  # noqa: SIM118
            assert torch.equal(merged.get_tensor(name), expected[name].to(torch.bfloat16)), name


def test_merged_model_loads_without_peft_and_says_the_same(exported: Path, tiny_gemma: Path) -> None:
    with_adapter = log_probabilities(
        PeftModel.from_pretrained(load(tiny_gemma), str(exported)).eval(), tiny_gemma
    )
    merged = log_probabilities(load(exported / "merged"), exported / "merged")
    base = log_probabilities(load(tiny_gemma), tiny_gemma)
    rounding = (merged - with_adapter).abs().mean().item()
    change = (base - with_adapter).abs().mean().item()
    assert rounding < 0.01 < 10 * rounding < change


def test_merged_model_is_prompted_as_it_was_trained(exported: Path) -> None:
    merged = exported / "merged"
    tokenizer: Any = AutoTokenizer.from_pretrained(merged)
    turns = [{"role": "user", "content": "What is half of 4?"}]
    template = load_template("qa")
    ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    assert ids == encode_prompt(tokenizer, template, turns)
    assert load(merged).generation_config.eos_token_id == [tokenizer.convert_tokens_to_ids("<eos>")]
    assert json.loads((merged / "config.json").read_text(encoding="utf-8"))["dtype"] == "bfloat16"


def test_licence_goes_along_and_a_foreign_card_does_not(exported: Path) -> None:
    for folder in ("merged", "gguf"):
        names = {path.name for path in (exported / folder).iterdir()}
        assert {"GEMMA_TERMS.html", "NOTICE.md", "source.json"} <= names
        assert "README.md" not in names


def test_gguf_read_by_our_reader_is_the_merged_model(exported: Path, tmp_path: Path) -> None:
    model = gguf_of(exported)
    write_checkpoint(model, tmp_path, lambda done: None)
    ours, merged = (
        load_file(tmp_path / "model.safetensors"),
        load_file(exported / "merged" / "model.safetensors"),
    )
    assert ours.keys() == merged.keys()
    assert all(torch.equal(ours[name], merged[name]) for name in merged)
    back = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    there = json.loads((exported / "merged" / "config.json").read_text(encoding="utf-8"))
    same = set(back) & set(there) - {"architectures"}
    assert len(same) > 15
    assert {name: back[name] for name in same} == {name: there[name] for name in same}
    kinds = {tensor.kind for tensor in model.tensors.values()}
    assert kinds == {GGMLQuantizationType.BF16, GGMLQuantizationType.F32}
    assert model.metadata["tokenizer.chat_template"].startswith("{{ bos_token }}")


@given(text=st.text(alphabet=st.sampled_from("aeinrst(),=<> \n'é#_4")))
def test_gguf_splits_every_text_alike(gguf_tokenizers: tuple[Tokenizer, Tokenizer], text: str) -> None:
    original, back = gguf_tokenizers
    assert back.encode(text).ids == original.encode(text).ids


@pytest.fixture(scope="module")
def gguf_tokenizers(exported: Path) -> tuple[Tokenizer, Tokenizer]:
    metadata = gguf_of(exported).metadata
    parts = (metadata[f"tokenizer.ggml.{name}"] for name in ("tokens", "scores", "token_type"))
    return Tokenizer.from_file(str(exported / "merged" / "tokenizer.json")), build_tokenizer(*parts)


def test_transformers_reads_the_gguf(tmp_path: Path) -> None:
    # So few layers that every one has a window, as Gemma's first five; what transformers assumes of each head, we say.
    base = write_tiny_gemma(tmp_path / "base", layers=2)
    write_gguf(base, tmp_path / "model.gguf", GgufLabel("tiny", "gemma"))
    read = log_probabilities(load(tmp_path, gguf_file="model.gguf", query_pre_attn_scalar=16), base)
    difference = (read - log_probabilities(load(base), base)).abs()
    assert difference.mean().item() < 0.01
    assert difference.max().item() < 0.2


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"model_type": "gemma2"}, "of the kind 'gemma2'"),
        ({"query_pre_attn_scalar": 168}, "query_pre_attn_scalar = 168"),
        ({"layer_types": ["full_attention", "sliding_attention", "sliding_attention"]}, "equal distances"),
        ({"layer_types": ["sliding_attention", "full_attention", "full_attention"]}, "equal distances"),
    ],
)
def test_gguf_is_refused_where_readers_would_assume_something_else(
    tiny_gemma: Path, tmp_path: Path, change: dict[str, Any], complaint: str
) -> None:
    shutil.copytree(tiny_gemma, tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change), encoding="utf-8")
    with pytest.raises(ValueError, match=complaint):
        write_gguf(tmp_path / "model", tmp_path / "model.gguf", GgufLabel("tiny", "gemma"))


def test_what_gguf_cannot_hold_is_left_out_and_named(
    tiny_order: Callable[..., TrainOrder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = make_adapter(Path(tiny_order().model_path), tmp_path / "artifact")

    def refuse(*_: object) -> None:
        (directory / "gguf" / "half.gguf").touch()
        raise ValueError("its layers are of a new kind")

    monkeypatch.setattr(exporting, "write_gguf", refuse)
    made = export(directory, tiny_order(), load_template("qa"), ["gguf"])
    assert {path.name for path in directory.iterdir() if path.is_dir()} == set()
    assert made[0].sentence == "The artifact has no gguf/: It cannot be made: its layers are of a new kind."
    (setting,) = applied_setting(made)
    assert (setting.field, setting.asked, setting.applied) == ("export", ["gguf"], [])


def test_full_disk_costs_the_export_and_not_the_adapter(
    tiny_order: Callable[..., TrainOrder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = make_adapter(Path(tiny_order().model_path), tmp_path / "artifact")
    before = {path.name for path in directory.iterdir()}

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(exporting, "merge_weights", full)
    made = export(directory, tiny_order(), load_template("qa"), ["merged", "gguf"])
    assert {path.name for path in directory.iterdir()} == before
    assert all(one.reason and "is full" in one.reason for one in made)
    assert applied_setting(made)[0].applied == []


def test_adapter_of_another_base_is_refused(tiny_gemma: Path, tmp_path: Path) -> None:
    larger = write_tiny_gemma(tmp_path / "larger", layers=4)
    with pytest.raises(JobFailure, match=r"layers\.3\..* no such layer"):
        merge_weights(tiny_gemma, make_adapter(larger, tmp_path / "adapter"), tmp_path)
