"""What the training process imports, and what it does not."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any

import pytest

from services.trainer.child import leave_out


@pytest.mark.parametrize(
    ("config", "hidden", "kept"),
    [
        ({}, {"datasets", "scipy", "sklearn", "bitsandbytes"}, set()),
        ({"load_in_4bit": True}, {"scipy"}, {"bitsandbytes"}),
        ({"optimizer": "adamw_8bit"}, {"scipy"}, {"bitsandbytes"}),
        ({"report_to": ["trackio"]}, set(), {"datasets", "scipy", "sklearn", "bitsandbytes"}),
    ],
)
def test_only_what_a_job_uses_can_be_imported(
    config: dict[str, Any], hidden: set[str], kept: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    others = {"datasets", "scipy", "sklearn", "bitsandbytes"}
    fresh = {name: module for name, module in sys.modules.items() if name.partition(".")[0] not in others}
    monkeypatch.setattr(sys, "modules", fresh)
    leave_out(config)
    assert all(find_spec(name) is None for name in hidden)
    assert all(find_spec(name) is not None for name in kept)
