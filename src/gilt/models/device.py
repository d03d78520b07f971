"""Device, precision and seed: what the machine offers, asked once and said plainly."""
import contextlib
import ctypes
import functools
import os
import platform
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from gilt.errors import ConfigError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def pick_device(name: str = "auto") -> torch.device:
    """Return the device called `name`; `auto` is CUDA where there is one. Raises ConfigError where it is missing."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("train.device='cuda', but this machine has no CUDA device that torch can use: choose 'cpu' or 'auto'")
    return torch.device(name)


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype to compute in; `auto` is bfloat16 where the device has instructions for it, else float32."""
    if name == "auto":
        name = "bfloat16" if _has_bfloat16(device) else "float32"
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return "avx512_bf16" in _cpu_flags() or "amx_bf16" in _cpu_flags()


@functools.cache
def _cpu_flags() -> frozenset[str]:
    try:
        with open("/proc/cpuinfo") as file:
            line = next((line for line in file if line.startswith("flags")), "")
    except OSError:
        line = ""
    return frozenset(line.split())


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch; with the seed, the machine and the number of threads alike, CPU runs repeat exactly."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@functools.cache
def keep_freed_memory() -> None:
    """Ask glibc to keep large freed blocks: handing activations back at every step costs more than computing them.

    Matters for activations of hundreds of megabytes on Linux; no effect elsewhere.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


@contextlib.contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Compute on so many CPU threads for a while; None: as many as before. A small layer waits longer for two than it works."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def machine(device: torch.device, precision: torch.dtype) -> dict[str, Any]:
    """Return what a timing or a result depends on: processor, threads, device, precision, versions."""
    return {"system": platform.platform(), "processor": _processor(), "cores": os.cpu_count(),
            "threads": torch.get_num_threads(), "python": platform.python_version(), "torch": torch.__version__,
            "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
            "precision": str(precision).removeprefix("torch.")}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
