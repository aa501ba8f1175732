"""The door's own vLLM leaves a card that a training asks for, and comes back with everything to be checked again."""

from __future__ import annotations

from pathlib import Path

import psutil

from tests.integration.inference.rigs import make_rig
from tests.integration.inference.serving import wait_until


def test_a_server_that_leaves_is_gone_and_comes_back_as_another(tmp_path: Path) -> None:
    with make_rig("stand-in", tmp_path) as rig:
        engine = rig.engine
        boot, pid = engine.boot, engine.pid
        assert psutil.pid_exists(pid)
        engine.refuse("its card is lent to ftjob_1")
        assert engine.failure() == "its card is lent to ftjob_1"
        engine.leave()
        assert not psutil.pid_exists(pid)
        assert engine.pid is None
        engine.come_back()
        engine.refuse(None)
        wait_until(lambda: engine.failure() is None)
        rig.load_base()
        assert engine.boot > boot, "so that adapters are loaded and checked again"
        assert engine.pid not in (None, pid)
