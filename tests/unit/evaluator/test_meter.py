"""Energy during a load run: counters that begin anew, what cannot be read, and the sums."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.evaluator.load.meter import Meter, Rapl, Usage, rapl_counters


def zone(root: Path, name: str, energy: int, full: int = 1_000_000) -> Path:
    folder = root / name
    folder.mkdir()
    for file, text in {"name": "package-0", "energy_uj": energy, "max_energy_range_uj": full}.items():
        (folder / file).write_text(f"{text}\n", encoding="utf-8")
    return folder


def test_a_counter_that_begins_anew_goes_on(tmp_path: Path) -> None:
    folder = zone(tmp_path, "intel-rapl:0", 900_000)
    counter = Rapl(folder)
    assert counter.joules() == 0.9
    (folder / "energy_uj").write_text("100000\n", encoding="utf-8")
    assert counter.joules() == 1.1
    assert counter.joules() == 1.1


def test_packages_are_counted_and_their_parts_are_not(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", 1)
    zone(tmp_path, "intel-rapl:0:0", 1)
    (tmp_path / "intel-rapl:1").mkdir()
    found, missing = rapl_counters(tmp_path)
    assert [counter.name for counter in found] == ["package-0"]
    assert len(missing) == 1
    assert "intel-rapl:1" in missing[0]
    assert rapl_counters(tmp_path / "none")[0] == []
    assert "virtual machine" in rapl_counters(tmp_path / "none")[1][0]


def test_a_run_takes_what_its_counters_say(tmp_path: Path) -> None:
    folder = zone(tmp_path, "intel-rapl:0", 0, full=10**9)
    with Meter(lambda: rapl_counters(tmp_path), lambda: ([], ["graphics cards: none"])) as meter:
        (folder / "energy_uj").write_text(str(7_200_000), encoding="utf-8")
    usage = meter.usage
    assert usage.total_j == pytest.approx(7.2)
    energy = usage.per(requests=2, tokens=100)
    assert (energy["wh"], energy["wh_per_answer"]) == (pytest.approx(0.002), pytest.approx(0.001))
    assert energy["wh_per_1000_tokens"] == pytest.approx(0.02)
    assert energy["left_out"] == ["graphics cards: none"]
    assert usage.gpu_percent is None
    assert usage.memory_used_percent > 0


def test_what_cannot_be_read_is_said() -> None:
    usage = Usage(1.0, 0.0, 0.0, 0.0, None, None, {}, ["processor: no RAPL counters"])
    assert usage.per(1, 1) == {"measured": False, "why": ["processor: no RAPL counters"]}
