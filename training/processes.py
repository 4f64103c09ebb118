"""Accelerate's set-up, and signals that stop a run of one or several processes."""

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import DataLoaderConfiguration, broadcast_object_list, set_seed

from training.options import RunOptions
from training.trackers import tracker_names
from utils import UserError, available_cores


def make_accelerator(options: RunOptions, broadcast_buffers: bool = False) -> Accelerator:
    """Return Accelerate's context for a run, with one thread per core on a CPU, and seed all generators.

    `broadcast_buffers` is for models whose buffers depend on the data of a process, such as batch norm's.
    """
    accelerator = Accelerator(
        # without `cpu`, Accelerate does not connect processes on a machine without a GPU
        cpu="LOCAL_RANK" in os.environ and not torch.accelerator.is_available(),
        mixed_precision=options.mixed_precision,
        log_with=tracker_names(options) or None,
        project_dir=options.folder,
        dataloader_config=DataLoaderConfiguration(non_blocking=True),
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=broadcast_buffers)],
    )
    on_cpu = accelerator.device.type == "cpu"
    if on_cpu and options.mixed_precision == "fp16":
        raise UserError("--mixed_precision fp16 needs a GPU; on a CPU use bf16 or no")
    # launchers set OMP_NUM_THREADS to 1 by default, which would leave the other cores of a CPU idle
    is_launched = "ACCELERATE_MIXED_PRECISION" in os.environ or "LOCAL_RANK" in os.environ
    if on_cpu and is_launched and os.environ.get("OMP_NUM_THREADS") == "1":
        torch.set_num_threads(max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))
    use_tf32(not (on_cpu or options.no_tf32))
    set_seed(options.seed)
    return accelerator


def use_tf32(enabled: bool) -> None:
    """Multiply float32 numbers on GPUs in TF32, with 10-bit mantissas. The mel frontend never does."""
    torch.set_float32_matmul_precision("high" if enabled else "highest")
    torch.backends.cudnn.allow_tf32 = enabled


@contextmanager
def stopping_together(accelerator: Accelerator) -> Iterator[None]:
    """End all processes after a UserError in the main process, which makes checks for all of them.

    All processes must enter this together.
    """
    problem: UserError | None = None
    try:
        yield
    except UserError as error:
        problem = error
    has_failed = [problem is not None]
    broadcast_object_list(has_failed)  # that of the main process
    if problem:
        raise problem
    if has_failed[0]:
        sys.exit(2)


class StopSignal:
    """Records SIGINT and SIGTERM until the run can stop."""

    def __init__(self):
        self.number: int | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._record)
        stop_with_launcher()

    def _record(self, number: int, frame) -> None:
        self.number = self.number or number
        if number == signal.SIGINT:  # a second Ctrl+C acts at once; launchers may send SIGTERM repeatedly
            signal.signal(number, signal.default_int_handler)

    def in_any_process(self, accelerator: Accelerator) -> bool:
        """Return whether any process has received a signal. All processes must call this together."""
        if accelerator.num_processes == 1:
            return self.number is not None
        flag = torch.tensor(int(self.number is not None), device=accelerator.device)
        return bool(accelerator.reduce(flag, "sum").item())


def stop_with_launcher() -> None:
    """Request a SIGTERM from Linux when `accelerate launch` dies, because it does not forward signals."""
    if sys.platform == "linux" and "ACCELERATE_MIXED_PRECISION" in os.environ:  # set only by the launcher
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
