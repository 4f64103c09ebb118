"""Accelerate's set-up, exchanges between the processes of a run, and signals that stop it."""

import atexit
import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed
import torch.distributed.nn  # before there is a group, which its default arguments would keep after `close`
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import (
    DataLoaderConfiguration,
    DistributedType,
    GradientAccumulationPlugin,
    set_seed,
)

from common.errors import UserError
from common.parallel import available_cores
from training.options import RunOptions
from training.trackers import tracker_names

SUPPORTED_TYPES = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)
# Variables that `accelerate launch` sets for configurations that split a model between processes.
UNSUPPORTED_SETTINGS = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism configuration",
}
FAILED = 1 << 16  # above the number of every signal


def make_accelerator(options: RunOptions, broadcast_buffers: bool = False) -> Accelerator:
    """Return Accelerate's context for a run, with one thread per core on a CPU, and seed all generators.

    `broadcast_buffers` is for models whose buffers depend on the data of a process, such as batch norm's.
    Raises UserError for hardware and launchers that training does not support.
    """
    for variable, name in UNSUPPORTED_SETTINGS.items():
        if os.environ.get(variable, "").lower() in ("true", "1"):
            refuse_hardware(name)
    accelerator = Accelerator(
        # without `cpu`, Accelerate does not connect processes on a machine without a GPU
        cpu="LOCAL_RANK" in os.environ and not torch.accelerator.is_available(),
        mixed_precision=options.mixed_precision,
        log_with=tracker_names(options) or None,
        project_dir=options.folder,
        # a step's batches are fetched together, so the end of the loader does not end an accumulation
        gradient_accumulation_plugin=GradientAccumulationPlugin(
            num_steps=options.gradient_accumulation_steps, sync_with_dataloader=False
        ),
        dataloader_config=DataLoaderConfiguration(non_blocking=True),
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=broadcast_buffers)],
    )
    if accelerator.distributed_type not in SUPPORTED_TYPES or accelerator.device.type not in ("cpu", "cuda"):
        refuse_hardware(f"{accelerator.distributed_type.value} on {accelerator.device.type}")
    on_cpu = accelerator.device.type == "cpu"
    if on_cpu and accelerator.mixed_precision == "fp16":
        raise UserError("--mixed_precision fp16 needs a GPU; on a CPU use bf16 or no")
    use_tf32(not (on_cpu or options.no_tf32))
    if on_cpu:
        use_all_cores()
    if accelerator.num_processes == 1:
        report_missing_processes()
    set_seed(options.seed)
    return accelerator


def use_tf32(enabled: bool) -> None:
    """Multiply float32 numbers on GPUs in TF32, with 10-bit mantissas. The mel itself is exact (`mel.py`)."""
    torch.set_float32_matmul_precision("high" if enabled else "highest")
    torch.backends.cudnn.allow_tf32 = enabled


def cores_per_process() -> int:
    """Return the number of cores for each of the processes that a launcher has started on this machine."""
    return max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def use_all_cores() -> None:
    """Undo the launchers' default of one thread per process, which would leave the other cores idle.

    A number of threads that the user has set stays.
    """
    is_launched = "ACCELERATE_MIXED_PRECISION" in os.environ or "LOCAL_RANK" in os.environ
    if is_launched and os.environ.get("OMP_NUM_THREADS") == "1" and not launcher_was_given_threads():
        torch.set_num_threads(cores_per_process())


def launcher_was_given_threads() -> bool:
    """Return whether OMP_NUM_THREADS was in the launcher's own environment, as far as Linux tells."""
    try:
        return b"OMP_NUM_THREADS=" in Path(f"/proc/{os.getppid()}/environ").read_bytes()
    except OSError:
        return False


def report_missing_processes() -> None:
    """Warn if `accelerate launch --cpu --num_processes N` has started only this process."""
    # the variables that it sets for several processes
    if {"ACCELERATE_USE_CPU", "ACCELERATE_MIXED_PRECISION", "MASTER_ADDR"} <= set(os.environ):
        print(
            "accelerate launch has started only one of several processes: on CPUs, use "
            "torchrun --nproc_per_node N, or accelerate launch --multi_gpu --num_processes N",
            file=sys.stderr,
        )


def refuse_hardware(name: str) -> None:
    raise UserError(
        f"training with {name} is not supported; use CUDA GPUs or CPUs, with one process or several: see "
        "docs/distributed.md, and change the answers to `accelerate config`"
    )


class Processes:
    """The processes of a launcher, and small exchanges between them. All must call each exchange together.

    The exchanges use a process group on the CPU, so that no process waits for its GPU. Works without
    Accelerate, for scripts that only divide their work.
    """

    def __init__(self):
        self.group, self.index, self.count = None, 0, 1
        patience = timedelta(days=1)  # one process may work for hours while the others wait
        if torch.distributed.is_initialized():
            self.group = torch.distributed.new_group(backend="gloo", timeout=patience)
        elif "LOCAL_RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1":
            torch.distributed.init_process_group("gloo", timeout=patience)
            self.group = torch.distributed.group.WORLD
        if self.group is not None:
            self.index, self.count = torch.distributed.get_rank(), torch.distributed.get_world_size()
            atexit.register(self.close)

    def close(self) -> None:
        """Leave the process groups. Groups that still exist when Python shuts down can abort the process."""
        self.group = None
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

    @property
    def is_main(self) -> bool:
        return self.index == 0

    def maximum(self, number: int) -> int:
        """Return the largest of the processes' numbers."""
        if self.group is None:
            return number
        value = torch.tensor(number)
        torch.distributed.all_reduce(value, torch.distributed.ReduceOp.MAX, self.group)
        return int(value)

    def gather(self, value: Any) -> list:
        """Return the values of all processes, any objects that can be pickled."""
        if self.group is None:
            return [value]
        values = [None] * self.count
        torch.distributed.all_gather_object(values, value, self.group)
        return values

    def from_main(self, value: Any) -> Any:
        """Return the main process's value, any object that can be pickled."""
        if self.group is None:
            return value
        values = [value if self.is_main else None]
        torch.distributed.broadcast_object_list(values, src=0, group=self.group)
        return values[0]

    @contextmanager
    def stopping_together(self) -> Iterator[None]:
        """Let a UserError of the block in any process end all, with one message per process that has one."""
        problem = None
        try:
            yield
        except UserError as error:
            problem = error
        if any(self.gather(problem is not None)):
            raise problem or SystemExit(2)


class StopSignal:
    """Records SIGINT and SIGTERM, from `listen` to `ignore`, until the run can stop."""

    def __init__(self):
        self.number: int | None = None
        self.handlers: dict[int, Any] = {}

    def listen(self) -> None:
        """Record signals from now on."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self.handlers[number] = signal.signal(number, self._record)
        stop_with_launcher()

    def ignore(self) -> None:
        """Restore the handlers that `listen` replaced, for a notebook that goes on after training."""
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def _record(self, number: int, frame) -> None:
        self.number = self.number or number
        if number == signal.SIGINT:  # a second Ctrl+C acts at once; launchers may send SIGTERM repeatedly
            signal.signal(number, signal.default_int_handler)


def stop_with_launcher() -> None:
    """Request a SIGTERM from Linux when `accelerate launch` dies, because it does not forward signals."""
    if sys.platform == "linux" and "ACCELERATE_MIXED_PRECISION" in os.environ:  # set only by the launcher
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def postpone_errors_of_workers() -> None:
    """Let the death of a loader's worker become an error when its batch is missing.

    PyTorch raises the error in a signal handler, which may interrupt a step that has updated only some of the
    weights. Call this after the first batch, since PyTorch sets its handler when it starts workers.
    """
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
