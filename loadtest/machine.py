"""What a run was measured on."""

import os
import platform
import resource
import time
from pathlib import Path
from typing import Any


def describe_machine() -> dict[str, Any]:
    """``load_before`` is the machine's load average: what else ran takes its share of every number."""
    return {
        "cpu": _cpu_model(),
        "cores": usable_cores(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "load_before": os.getloadavg()[0],
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def usable_cores() -> int:
    return len(os.sched_getaffinity(0))


def allow_open_files(count: int) -> None:
    """Raise this process's limit on open files, and that of those it starts, as far as it may be raised."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
