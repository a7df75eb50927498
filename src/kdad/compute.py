"""Where and in which number format networks run: device, precision, memory layout, threads."""

import ctypes
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch

from kdad.errors import InputError, first_line
from kdad.parameters.blocks import ComputeParameters

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
PrecisionName = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class Compute:
    """A resolved choice of device, floating-point format and memory layout, and whether networks are compiled."""

    device: torch.device
    dtype: torch.dtype
    compile: bool = False

    @property
    def memory_format(self) -> torch.memory_format:
        """Channels-last everywhere but MPS, whose kernels prefer the default layout."""
        return torch.contiguous_format if self.device.type == "mps" else torch.channels_last

    def place(self, module: torch.nn.Module) -> torch.nn.Module:
        """Move a module's parameters to the device, in the layout in use."""
        return module.to(device=self.device, memory_format=self.memory_format)

    def compiled(self, network: Callable[..., Any]) -> Callable[..., Any]:
        """Return what does the same through ``torch.compile`` where that was asked for: to float32's last digits."""
        return torch.compile(network) if self.compile else network

    def move(self, batch: torch.Tensor) -> torch.Tensor:
        """Move images or activations `(B, C, H, W)` to the device, in the layout in use.

        To a CUDA device they go by pinned memory, while this process goes on.
        """
        if self.device.type == "cuda" and batch.device.type == "cpu":
            pinned = batch.contiguous(memory_format=self.memory_format).pin_memory()
            return pinned.to(device=self.device, non_blocking=True)
        return batch.to(device=self.device, memory_format=self.memory_format)

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Run the block's convolutions in the chosen format; parameters stay float32."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            yield

    def describe(self) -> dict[str, str]:
        """Say what was chosen, for manifests and run parameters: everything that numbers depend on."""
        chosen = {"device": self.device.type, "dtype": str(self.dtype).removeprefix("torch.")}
        return chosen | ({"compile": f"torch {torch.__version__}"} if self.compile else {})


def bfloat16_is_native(device: torch.device) -> bool:
    """Tell whether the device multiplies bfloat16 in hardware, where it is about twice as fast as float32.

    Capabilities decide and not a timing: the same machine must choose the same format every time.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def choose_compute(device: DeviceName = "auto", precision: PrecisionName = "auto", compiled: bool = False) -> Compute:
    """Resolve ``auto`` to what this machine has.

    Raises `InputError` when the device asked for is not there, or cannot be compiled for.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = next(name for name in ("cuda", "mps", "cpu") if available[name])
    if not available[device]:
        raise InputError(f"compute.device is '{device}', which this machine does not have; use 'auto' or 'cpu'")
    chosen = torch.device(device)
    if precision == "auto":
        precision = "bfloat16" if bfloat16_is_native(chosen) else "float32"
    if compiled:
        _require_compiler(chosen)
    return Compute(chosen, getattr(torch, precision), compiled)


@cache
def _require_compiler(device: torch.device) -> None:
    """Compile something small, once a process: what a machine lacks shows only then."""
    try:
        torch.compile(lambda values: values + 1)(torch.ones(2, device=device))
    # The backends raise errors of their own, and those of the compilers that they call.
    except Exception as error:
        raise InputError(
            f"compute.compile is true, but nothing can be compiled for '{device.type}' here ({first_line(error)}); "
            "install what torch.compile needs (for the CPU a C++ compiler such as g++), or set it to false"
        ) from error


#: Where Linux says how much processor time a group of processes may take, and in which group this one is.
_GROUPS, _OWN_GROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Return how many cores this process may run on: fewer than the host has by affinity, or by a container's quota.

    The quota is the least of the process's own group and those above it, of either version of Linux's groups.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota()
    return cores if quota == math.inf else max(1, min(cores, math.ceil(quota)))


def _quota() -> float:
    """Return how many cores the groups of processes allow; infinity without a quota."""
    found = [math.inf]
    try:
        lines = [line.split(":", 2) for line in _OWN_GROUP.read_text().splitlines()]
    except OSError:  # no Linux
        lines = []
    for names, path in [(names, path) for _, names, path in lines if not names or "cpu" in names.split(",")]:
        # In a container its own group is the root of what it sees, whatever the path says.
        base = _GROUPS / ("cpu" if names else "")
        own = base / path.strip("/")
        for folder in [own, *own.parents]:
            if folder.is_relative_to(base):
                found.append(_quota_of(folder))
    return min(found)


def _quota_of(folder: Path) -> float:
    """Return the quota of one group: ``cpu.max`` holds ``max 100000`` or ``150000 100000``; once there were two files.

    Infinity without.
    """
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return math.inf if quota in ("max", "-1") else int(quota) / int(period)
    except (OSError, ValueError):
        return math.inf


_is_forked = False


def _keep_to_one_thread() -> None:
    global _is_forked
    _is_forked = True
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    # Threads do not survive a fork: a child would wait for ever for those that its parent computed with.
    os.register_at_fork(after_in_child=_keep_to_one_thread)


def limit_threads(threads: int | None) -> None:
    """Let torch use `threads` cores; None means OMP_NUM_THREADS, else all that this process may run on.

    By that variable a cluster gives each of several workers of a host its share. A process that was forked, and not
    spawned, keeps to one thread.
    """
    given = os.environ.get("OMP_NUM_THREADS", "")
    wanted = threads or (int(given) if given.isdigit() and int(given) else usable_cores())
    torch.set_num_threads(1 if _is_forked else wanted)


def respect_quota(threads: int | None) -> None:
    """Let torch use `threads` cores; None leaves it as it is, but for threads that a quota gives no time to.

    Raises `InputError` for less than one.
    """
    if threads is not None and (not isinstance(threads, int) or threads < 1):
        raise InputError(f"threads is {threads!r}; give a whole number from 1 on, or None")
    if threads is not None or torch.get_num_threads() > usable_cores():
        limit_threads(threads or usable_cores())


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread: of many small tensors a second one costs more than it gives, tenfold on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def prepare_compute(parameters: ComputeParameters) -> Compute:
    """Set torch's threads, keep freed memory, and resolve device and precision as the ``compute:`` block says."""
    keep_freed_memory()
    limit_threads(parameters.threads)
    return choose_compute(parameters.device, parameters.precision, parameters.compile)


# Of glibc's <malloc.h>.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
#: Bytes of one tensor, and of all that is free at the end of the heap, beyond which memory is given back.
LARGEST_KEPT, FREE_AT_END = 1 << 28, 1 << 29
#: Who has set this knows better.
_SET_BY_USER = "MALLOC_MMAP_THRESHOLD_"


@cache
def keep_freed_memory() -> bool:
    """Let glibc's malloc keep freed tensors of up to 256 MB for this process; tell whether it does.

    By itself it gives back what is larger than 32 MB at once, and the next training step fetches it anew, page by page:
    up to a third of a large step's processor time (docs/lab/performance.md). Elsewhere than with glibc, or where
    ``MALLOC_MMAP_THRESHOLD_`` is set, nothing is changed.
    """
    if not sys.platform.startswith("linux") or os.environ.get(_SET_BY_USER):
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:
        return False
    wanted = {MMAP_THRESHOLD: LARGEST_KEPT, TRIM_THRESHOLD: FREE_AT_END}
    return all(bool(set_option(option, value)) for option, value in wanted.items())
