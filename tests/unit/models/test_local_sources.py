"""Folders and GGUF files as sources: taken over whole, listed in the catalogue, or refused in one sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from typer.testing import CliRunner

from libs.common.errors import InvalidInput
from libs.common.models import prepare
from libs.common.models.errors import ModelNotPrepared
from libs.common.models.prompting import load_template
from libs.common.models.sources import Wish, read_wish, source_of
from libs.common.models.store import LICENCE_FILES, ModelStore
from libs.common.testing.tiny_gemma import write_tiny_gemma
from model_training.cli.main import app
from model_training.config.catalogue import CATALOGUE, find_model, get_model
from services.inference.adapters.tokenizer import load_tokenizer
from services.inference.adapters.weight_files import read_adapter, read_base
from services.inference.loaded import LoadedModels, Room, Sources
from tests.unit.models.test_store import write_gguf

TEMPLATE = "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ m.content }}<end_of_turn>\n{% endfor %}"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gemma(tmp_path_factory.mktemp("tiny"), layers=6)


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    """A folder that a user has, with more in it than a model needs."""
    path = shutil.copytree(tiny, tmp_path / "My Gemma")
    (path / "LICENSE").write_text("the company's licence", encoding="utf-8")
    (path / "training_args.bin").write_bytes(b"a pickle")
    (path / "modeling.py").write_text("raise SystemExit", encoding="utf-8")
    (path / "optimizer").mkdir()
    return path


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    monkeypatch.setenv("MT_MODEL_DIR", str(tmp_path / "models"))
    return ModelStore(tmp_path / "models")


def prepare_from(store: ModelStore, path: Path, name: str = "mine", template: str | None = None) -> Path:
    return store.prepare(name, source=source_of(Wish(name, str(path), template=template)))


def test_a_folder_becomes_a_model_of_the_catalogue_that_transformers_loads(
    folder: Path, store: ModelStore
) -> None:
    from transformers import AutoModelForCausalLM

    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    path = prepare_from(store, folder)
    assert not {"training_args.bin", "modeling.py", "optimizer"} & {found.name for found in path.iterdir()}
    model = AutoModelForCausalLM.from_pretrained(path, use_safetensors=True, local_files_only=True)
    entry = get_model("mine")
    assert entry == CATALOGUE["mine"] == find_model("local/MINE")
    assert entry.parameters == model.num_parameters()
    assert (entry.template, entry.instructed, entry.gated) == ("gemma", True, False)
    assert "mine" in list(CATALOGUE)
    record = json.loads((path / "source.json").read_text(encoding="utf-8"))
    assert (record["kind"], record["origin"]) == ("folder", "My Gemma")
    assert set(record["files"]) >= {"model.safetensors", "tokenizer.json", "chat_template.jinja", "LICENSE"}
    assert {"LICENSE", "NOTICE.md", "source.json"} <= set(LICENCE_FILES) & {p.name for p in path.iterdir()}
    assert load_template(entry.template, path).own is not None
    shutil.rmtree(path)
    assert find_model("mine") is None


class FakeEngine:
    """An engine that loads nothing."""

    boot = 1

    def load(self, model: Any, decode: Any) -> None: ...


class FakeGate:
    """A gate that measures nothing."""

    def calibrate(self, base: str, tokenizer: Any) -> None: ...


def test_a_model_of_ones_own_is_served_by_its_own_template(folder: Path, store: ModelStore) -> None:
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    nested = {"model_type": "gemma3", "text_config": config, "eos_token_id": [1, 5]}
    (folder / "config.json").write_text(json.dumps(nested), encoding="utf-8")
    prepare_from(store, folder)
    sources = Sources(store, cast(Any, None), cast(Any, None), load_tokenizer, read_base, read_adapter)
    engine, gate = cast(Any, FakeEngine()), cast(Any, FakeGate())
    models = LoadedModels(sources, engine, gate, Room(tuned=1, window=100_000))
    loaded = models.ensure("mine")
    assert loaded.template.own is not None
    assert loaded.template.stop == ("<end_of_turn>",)
    assert (loaded.window, loaded.stop_ids) == (512, {1, 5})


def test_a_gguf_file_becomes_a_model(tiny: Path, store: ModelStore, tmp_path: Path) -> None:
    write_gguf(tiny, file := tmp_path / "Tiny.Q8.gguf")
    assert prepare.main([str(file)]) == 0
    entry = get_model("tiny.q8")
    assert (entry.template, entry.instructed) == ("qa", False)
    record = json.loads((store.resolve("tiny.q8") / "source.json").read_text(encoding="utf-8"))
    assert record["kind"] == "gguf"
    assert record["files"]["Tiny.Q8.gguf"].startswith("sha256:")
    file.write_bytes(file.read_bytes()[:-5000])
    with pytest.raises(ModelNotPrepared, match="is damaged or cut off"):
        prepare_from(store, file, "cut")
    assert not (store.root / "cut").exists()


def cut_off(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def only_a_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def an_adapter(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "training_args.bin").unlink()
    (folder / "adapter_config.json").write_text("{}", encoding="utf-8")


def no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def change(folder: Path, **settings: object) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | settings), encoding="utf-8")


def quantised(folder: Path) -> None:
    change(folder, quantization_config={"quant_method": "bitsandbytes"})


def own_code(folder: Path) -> None:
    change(folder, auto_map={"AutoModel": "modeling.X"})


def broken_settings(folder: Path) -> None:
    (folder / "config.json").write_text("{", encoding="utf-8")


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (cut_off, r"model\.safetensors in .*My Gemma is damaged"),
        (only_a_pickle, r"only as pytorch_model\.bin"),
        (an_adapter, "holds an adapter and no model"),
        (no_tokenizer, r"no tokenizer\.json with Gemma's <bos>"),
        (quantised, r"are quantised \(bitsandbytes\)"),
        (own_code, "needs code of its own"),
        (broken_settings, r"config\.json is not JSON"),
    ],
)
def test_folders_that_are_not_taken(
    folder: Path, store: ModelStore, harm: Callable[[Path], None], says: str
) -> None:
    harm(folder)
    with pytest.raises(InvalidInput, match=says) as caught:
        prepare_from(store, folder)
    assert caught.value.hint
    assert [path.name for path in store.root.iterdir() if path.suffix != ".lock"] == []


def test_a_name_of_the_catalogue_is_kept_for_a_model_of_that_size(folder: Path, store: ModelStore) -> None:
    with pytest.raises(InvalidInput, match=r"gemma-3-1b has about 1,000 million") as caught:
        prepare_from(store, folder, "gemma-3-1b")
    assert "--name" in (caught.value.hint or "")
    with pytest.raises(InvalidInput, match="is prompted with the template 'qa'"):
        prepare_from(store, folder, "gemma-3-1b", template="gemma")


@pytest.mark.parametrize(
    ("target", "options", "wish"),
    [
        ("gemma-3-1b", {}, Wish("gemma-3-1b")),
        ("google/gemma-3-1b-pt", {}, Wish("gemma-3-1b")),
        ("/models/My Gemma", {}, Wish("my-gemma", "/models/My Gemma")),
        ("x/Tuned.gguf", {"name": "t"}, Wish("t", "x/Tuned.gguf")),
        ("gemma-3-1b", {"source": "/models/m"}, Wish("gemma-3-1b", "/models/m")),
        ("mine", {"source": "hub:a/b", "revision": "v1"}, Wish("mine", "hub:a/b", "v1")),
    ],
)
def test_what_a_command_asks_for(target: str, options: dict[str, str], wish: Wish) -> None:
    given = {"name": None, "revision": None, "template": None, "source": None} | options
    assert read_wish(target, given.pop("source"), **given) == wish


def test_wishes_that_cannot_be(tmp_path: Path) -> None:
    nothing = {"name": None, "revision": None, "template": None}
    with pytest.raises(InvalidInput, match="no chat template 'chatml'"):
        read_wish("mine", "hub:a/b", **(nothing | {"template": "chatml"}))
    with pytest.raises(InvalidInput, match="kept for tuned models"):
        read_wish("model_1", "hub:a/b", **nothing)
    for source, says in [("/no/such", "does not exist"), (str(tmp_path), "not a model name")]:
        with pytest.raises(InvalidInput, match=says):
            ModelStore(tmp_path / "models").prepare("../x", source=source_of(Wish("../x", source)))
    (text := tmp_path / "a.txt").write_text("a", encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"neither a folder nor a \.gguf file"):
        source_of(Wish("x", str(text)))


def test_mt_models_prepare(folder: Path, store: ModelStore, tmp_path: Path) -> None:
    run = CliRunner().invoke
    done = run(app, ["models", "prepare", str(folder), "--name", "mine"])
    assert done.exit_code == 0, done.output
    assert str(store.root / "mine") in done.output
    assert done.output.count("licence: Gemma is provided under") == 1
    refused = run(app, ["models", "prepare", str(tmp_path), "--name", "other"])
    assert refused.exit_code == 1
    assert "holds no config.json" in refused.output
