"""A sweep over the real trainer, through the gateway: what learns wins over what does not, on all seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.common.db.engine import Database
from libs.common.db.tables import ProjectRow
from model_training.contracts.jobs import FINAL_STATES, JobState
from model_training.contracts.sweeps import SweepCreate
from tests.conftest import Stores, free_ports, scratch_database
from tests.integration.pipelines.conftest import KEY, Lab, process, wait_until
from tests.integration.trainer.conftest import CONFIG, Trainer, lines

SETTINGS = {name: value for name, value in CONFIG.items() if name not in ("training_file", "learning_rate")}


@pytest.mark.slow
def test_the_setting_that_learns_wins(stores: Stores, trainer: Trainer, tmp_path: Path) -> None:
    with scratch_database(stores.settings.database_url) as url:
        own = Database(url)
        with own.session() as session:
            session.add(ProjectRow(id="proj_default", name="default"))
        env = {
            **stores.environment,
            "MT_DATABASE_URL": url,
            "MT_BROKER_URL": stores.settings.broker_url.rpartition("/")[0] + "/5",
            "MT_BOOTSTRAP_API_KEY": KEY,
            "MT_MODEL_DIR": str(trainer.settings.model_dir),
            "MT_TRAINER_URL": f"http://127.0.0.1:{free_ports(1)}",
            "OMP_NUM_THREADS": "1",
        }
        lab = Lab(env, stores.home, own, f"http://127.0.0.1:{free_ports(1)}")
        with process("services.trainer.main", env=env), lab.gateway(), lab.client() as client:
            path = tmp_path / "train.jsonl"
            path.write_text(lines(40), encoding="utf-8")
            request = SweepCreate(
                model="gemma-3-270m",
                training_file=client.files.upload(path, "fine-tune").id,
                config={**SETTINGS, "early_stopping_patience": 0},
                search={"learning_rate": [5e-3, 1e-5]},
                seeds=[0, 1],
                finalists=1,
                max_parallel=1,
            )
            sweep_id = client.sweeps.create(request).id
            wait_until(lambda: client.jobs.get(sweep_id).state in FINAL_STATES, 600)
            sweep = client.sweeps.get(sweep_id)
        own.close()
    assert sweep.state == JobState.SUCCEEDED, sweep
    assert sweep.best is not None
    assert sweep.best.settings == {"learning_rate": 5e-3}
    winner = next(trial for trial in sweep.trials if trial.settings == sweep.best.settings)
    assert len([run for run in winner.runs if run.state == "succeeded"]) == 2
