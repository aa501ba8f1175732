"""Parts of the platform that need no process: secrets, state, messages, joined data."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from model_training.client.client import Client
from model_training.client.data import data_files, upload_data
from model_training.client.errors import ApiError
from model_training.client.outputs import write_text
from model_training.client.resources.files import Files
from model_training.contracts.files import FileObject, FilePurpose
from model_training.contracts.problems import Problem, RowFault
from model_training.embedded.plan import Options, child_environment, make_units
from model_training.embedded.process import rotate, tail
from model_training.embedded.progress import Report, read_report
from model_training.embedded.units import SERVICES, Unit
from model_training.errors import UserError
from model_training.home import Home, write_private


def test_secrets_are_made_once_and_private(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.create()
    first, key = home.secrets(), home.api_key()
    assert home.secrets() == first
    assert home.api_key() == key
    assert len(key) >= 43, "256 random bits take 43 characters of base64"
    assert len({first.internal_token, first.key_pepper, first.broker_password}) == 3
    for name in ("secrets.json", "api_key"):
        assert (home.root / name).stat().st_mode & 0o777 == 0o600


def test_two_homes_share_no_secret(tmp_path: Path) -> None:
    homes = [Home(tmp_path / name) for name in ("a", "b")]
    for home in homes:
        home.create()
    assert homes[0].secrets() != homes[1].secrets()
    assert homes[0].api_key() != homes[1].api_key()


def test_a_home_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be used") as caught:
        Home(tmp_path / "file" / "home").create()
    assert "--home" in (caught.value.hint or "")


def test_private_files_replace_whole(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old", encoding="utf-8")
    path.chmod(0o644)
    write_private(path, "new")
    assert path.read_text(encoding="utf-8") == "new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["x"]


def test_only_the_gateway_gets_the_pepper_and_the_first_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MT_KEY_PEPPER", "of another platform")
    home = Home(tmp_path)
    home.create()
    units = {unit.name: unit for unit in make_units(Options(home=tmp_path), home)}
    assert set(units) == {"model", "postgres", "valkey", "migrations", *(spec.name for spec in SERVICES)}
    for name, unit in units.items():
        env = child_environment(unit)
        assert ("MT_BOOTSTRAP_API_KEY" in env) == (name == "gateway")
        assert (env.get("MT_KEY_PEPPER") == home.secrets().key_pepper) == (name == "gateway")
    assert units["gateway"].env["MT_TRAINER_URL"] == "http://127.0.0.1:8006"
    assert set(units["inference"].needs) == {"model", "valkey", "postgres", "migrations"}
    assert home.secrets().broker_password not in " ".join(units["valkey"].command)


def test_an_inherited_model_directory_becomes_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MT_MODEL_DIR", "models")
    assert child_environment(Unit("u", ("true",)))["MT_MODEL_DIR"] == str(Path("models").absolute())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"message": "reading tensors", "fraction": 0.5}', "reading tensors 50%"),
        ('{"message": "done", "fraction": 1.0}', "done"),
        ('{"path": "/x"}', "earlier"),
        ("plain text", "plain text"),
        ('"a string"', '"a string"'),
    ],
)
def test_a_steps_last_message_is_shown(tmp_path: Path, line: str, message: str) -> None:
    log = tmp_path / "x.log"
    log.write_text(f"earlier\n{line}\n", encoding="utf-8")
    assert read_report(log).message == message
    assert read_report(tmp_path / "none.log") == Report()


def test_a_licence_stays_in_sight_and_old_runs_do_not_count(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    old = json.dumps({"message": "licence: of an earlier run"}) + "\n"
    new = [
        {"message": "licence: Gemma Terms of Use", "fraction": 0.02},
        {"message": "converting", "fraction": 0.5},
    ]
    log.write_text(old + "".join(json.dumps(line) + "\n" for line in new), encoding="utf-8")
    report = read_report(log, len(old))
    assert report.notices == ("licence: Gemma Terms of Use",)
    assert report.message == "converting 50%"


def test_a_failed_step_speaks_for_itself(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text(
        json.dumps({"error": "The checksum is wrong.", "hint": "Install it again."}), encoding="utf-8"
    )
    report = read_report(log)
    assert (report.error, report.hint) == ("The checksum is wrong.", "Install it again.")
    log.write_text("Traceback …", encoding="utf-8")
    assert read_report(log).error is None


def test_logs_are_cut_and_turned_over(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("\n".join(map(str, range(100))), encoding="utf-8")
    assert tail(log, 2) == "98\n99"
    assert tail(tmp_path / "none.log") == ""
    rotate(log, limit_bytes=10)
    assert (tmp_path / "x.log.1").exists()
    assert not log.exists()


class RecordingFiles(Files):
    """Keeps what would be uploaded, and refuses the row that a test chooses."""

    def __init__(self, faulty_row: int | None = None) -> None:
        self._faulty_row = faulty_row
        self.rows: list[str] = []

    def upload(self, path: Path | str, purpose: FilePurpose | str) -> FileObject:
        """Read the file, as the gateway does."""
        self.rows = Path(path).read_text(encoding="utf-8").splitlines()
        if self._faulty_row is not None:
            fault = RowFault(row=self._faulty_row, field="answer", message="is empty")
            raise ApiError(Problem(title="t", status=400, detail="d", code="invalid_file", rows=[fault]))
        return FileObject(
            id="file_1", bytes=1, created_at=1, filename="f", purpose=FilePurpose(purpose), sha256="0"
        )


def client_with(files: RecordingFiles) -> Client:
    client = Client("http://127.0.0.1:1", "k")
    client.files = files
    return client


def test_a_folder_is_joined_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text('{"n": 3}\n', encoding="utf-8")
    (tmp_path / "a.jsonl").write_text('\ufeff{"n": 1}\n{"n": 2}', encoding="utf-8")
    (tmp_path / "notes.txt").write_text("not data", encoding="utf-8")
    files = RecordingFiles()
    upload_data(client_with(files), tmp_path, FilePurpose.FINE_TUNE, field="training_file")
    assert files.rows == ['{"n": 1}', '{"n": 2}', '{"n": 3}']


@pytest.mark.parametrize(
    ("faulty", "where"), [(1, "a.jsonl, row 1"), (2, "a.jsonl, row 2"), (3, "b.jsonl, row 1")]
)
def test_a_faulty_row_is_named_by_its_own_file(tmp_path: Path, faulty: int, where: str) -> None:
    (tmp_path / "a.jsonl").write_text("{}\n{}", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match=f"{where}, field answer: is empty"):
        upload_data(
            client_with(RecordingFiles(faulty)), tmp_path, FilePurpose.FINE_TUNE, field="training_file"
        )


def test_missing_data_name_the_setting(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="training_file = 'no/such'"):
        data_files("no/such", "training_file")
    with pytest.raises(UserError, match=r"holds no \.jsonl file"):
        data_files(tmp_path, "chunks_path")


def test_outputs_replace_whole(tmp_path: Path) -> None:
    path = write_text(tmp_path / "new" / "x.md", "text")
    assert path.read_text(encoding="utf-8") == "text\n"
    assert os.listdir(path.parent) == ["x.md"]
