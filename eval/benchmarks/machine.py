"""What is measured on: the processor and the software, and nothing that names the machine or its owner."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

# What decides the speed of matrix products.
_INSTRUCTIONS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16", "sve")
_PACKAGES = ("torch", "transformers", "tokenizers", "numpy")


def describe() -> dict[str, Any]:
    """Processor, cores, memory, instruction sets and versions; the same after every restart."""
    info = _cpuinfo()
    flags = set((info.get("flags") or info.get("Features") or "").split())
    return {
        "processor": info.get("model name") or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": _memory(),
        "instructions": [name for name in _INSTRUCTIONS if name in flags],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
    }


def sentence(machine: dict[str, Any]) -> str:
    """The description in a line."""
    versions = ", ".join(f"{name} {machine[name]}" for name in ("python", *_PACKAGES) if machine[name])
    sets = " ".join(machine["instructions"]) or "no vector extensions known"
    return f"{machine['cores']} cores {machine['processor']} ({sets}), {machine['memory_gb']} GB, {versions}"


def _cpuinfo() -> dict[str, str]:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines if ":" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}


def _memory() -> int | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    except (ValueError, OSError, AttributeError):
        return None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
