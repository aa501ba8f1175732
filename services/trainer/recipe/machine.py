"""What the machine that trains has: a GPU or threads, number formats, memory, libraries."""

from __future__ import annotations

import os
import resource
import sys
from importlib.util import find_spec
from pathlib import Path

import psutil
import torch

from libs.common.training.plan import MachineFacts


def machine_facts() -> MachineFacts:
    """What this process can compute on."""
    cuda = torch.cuda.is_available()
    return MachineFacts(
        cuda=cuda,
        fast_bf16=torch.cuda.is_bf16_supported() if cuda else _cpu_multiplies_bf16(),
        flash_attention=cuda and find_spec("flash_attn") is not None,
        unsloth=cuda and find_spec("unsloth") is not None,
        memory_bytes=float(torch.cuda.mem_get_info()[1] if cuda else _memory_limit()),
    )


def use_threads() -> int:
    """Compute on every processor that this process may use, or on `OMP_NUM_THREADS` where it is set; returns how many."""
    if "OMP_NUM_THREADS" not in os.environ:
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        torch.set_num_threads(usable or 1)
    return torch.get_num_threads()


def peak_memory_bytes(device: str = "cpu") -> int:
    """The most memory that this process has held, in bytes; on a GPU, that PyTorch has reserved there."""
    if device == "cuda":
        return torch.cuda.max_memory_reserved()
    status = Path("/proc/self/status")
    if status.is_file():  # `getrusage` counts what the parent held when it started us, too
        lines = status.read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def held_memory_bytes(device: str = "cpu") -> int:
    """The memory that this process holds now, in bytes; on a GPU, that PyTorch has reserved there."""
    return torch.cuda.memory_reserved() if device == "cuda" else psutil.Process().memory_info().rss


def _memory_limit() -> int:
    """Memory of the machine, or less where a limit is set on this process or its container."""
    limits = [psutil.virtual_memory().total, *_cgroup_limits()]
    limits += [
        soft
        for soft in (resource.getrlimit(which)[0] for which in (resource.RLIMIT_AS, resource.RLIMIT_DATA))
        if soft > 0
    ]
    return min(limits)


def _cgroup_limits() -> list[int]:
    """Limits of version 2 control groups, from this process's own group upwards."""
    try:
        own = Path("/proc/self/cgroup").read_text(encoding="utf-8").strip().rpartition("::")[2].lstrip("/")
    except OSError:
        return []
    root = Path("/sys/fs/cgroup")
    groups = [root / own, *(root / own).parents]
    files = [group / "memory.max" for group in groups if group.is_relative_to(root)]
    texts = [file.read_text(encoding="utf-8").strip() for file in files if file.is_file()]
    return [int(text) for text in texts if text.isdigit()]


def _cpu_multiplies_bf16() -> bool:
    check = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    amx = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool((check and check()) or (amx and amx()))
