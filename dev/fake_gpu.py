"""A GPU in name only: run the project's code on "cuda" tensors on any machine, to find mistakes of devices,
precisions and waiting.

    with fake_gpu() as gpu:
        model = build_generator(config).to("cuda")
        audio = model(torch.randn(1, 80, 16, device="cuda"))
    assert gpu.waits == []

Tensors have a shape, a dtype and a device, but no values (PyTorch's FakeTensorMode). Operations on tensors of
two devices raise an error, and autocast, the loss scaler and fused optimizers convert as on a GPU. Calls that
would wait for the GPU are recorded. What is not run as on a GPU:

- cuDNN, which asks for the driver: its LSTM is replaced by PyTorch's own.
- The engine of autograd, which asks the driver for its streams: `backward` calls the same functions of the
  graph one after the other.
- `Module.to`, which swaps parameters in a way that FakeTensorMode does not support, replaces them.
- Code that depends on values. Reading one is recorded as waiting and returns `FakeGPU.value`; operators whose
  result has a size that depends on values, such as `nonzero`, raise an error.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState, GradientState
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("cuda", 0)
aten = torch.ops.aten


class FakeGPU(TorchDispatchMode):
    """Records the calls that would wait for the GPU in `waits`."""

    def __init__(self):
        super().__init__()
        self.waits: list[str] = []
        self.value = 0.0  # what reading a number from the GPU returns

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func.namespace == "aten":  # operators that are made of others, which inference mode leaves whole
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        operator, before = func.overloadpacket, devices((args, kwargs))
        is_reading = operator in (aten._local_scalar_dense, aten.equal)
        if is_reading and "cuda" in before:
            self.waits.append(str(func))
        try:
            result = func(*args, **kwargs)
        except DataDependentOutputException:
            is_float = operator != aten.equal and args[0].is_floating_point()
            return self.value if is_float else int(self.value)
        # copies from or to memory that is not pinned, as none is here
        is_copy = operator in (aten._to_copy, aten.copy_) and before | devices(result) > {"cuda"}
        if is_copy or (operator == aten.lift_fresh and "cuda" in devices(result)):
            self.waits.append(str(func))
        return result


def devices(values) -> set[str]:
    return {value.device.type for value in tree_leaves(values) if isinstance(value, Tensor)}


@contextmanager
def fake_gpu() -> Iterator[FakeGPU]:
    """Enter a context in which new tensors are fake, and "cuda" is a device also for Accelerate."""
    precision = torch.get_float32_matmul_precision()
    with ExitStack() as stack:
        for target, name, replacement in (
            (torch.cuda.amp.common, "amp_definitely_not_available", lambda: False),
            (torch.cuda, "is_bf16_supported", lambda *args, **kwargs: True),
            (torch, "lstm", lstm),
            (torch._VF, "lstm", lstm),
            (nn.Module, "_apply", replace_parameters),
            (Tensor, "backward", backward),
        ):
            stack.enter_context(patch.object(target, name, replacement))
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        stack.callback(torch.set_float32_matmul_precision, precision)
        stack.enter_context(patch.dict(os.environ))
        os.environ.pop("ACCELERATE_USE_CPU", None)
        forget_accelerator()
        stack.callback(forget_accelerator)
        PartialState().device = DEVICE
        # parameters read from files and arrays become fake when they are used
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        yield stack.enter_context(FakeGPU())


def forget_accelerator() -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def lstm(x: Tensor, state, weights, *args, **kwargs):
    """Run PyTorch's own LSTM; under autocast, with everything in half precision, as cuDNN does."""
    if torch.is_autocast_enabled("cuda"):
        dtype = torch.get_autocast_dtype("cuda")
        x, state, weights = tree_map(lambda values: values.to(dtype), (x, tuple(state), list(weights)))
    return torch._VF.vf.lstm(x, state, weights, *args, **kwargs)


def replace_parameters(module: nn.Module, function, recurse: bool = True) -> nn.Module:
    """Apply a function to all parameters and buffers: `Module._apply`, without gradients."""
    for child in module.children() if recurse else ():
        child._apply(function)
    for name, parameter in module._parameters.items():
        if parameter is not None:
            with torch.no_grad():
                moved = function(parameter)
            if moved is not parameter:
                module._parameters[name] = nn.Parameter(moved, parameter.requires_grad)
    for name, buffer in module._buffers.items():
        module._buffers[name] = None if buffer is None else function(buffer)
    return module


def backward(loss: Tensor) -> None:
    """Add the gradients of a scalar to those of the parameters.

    Raises RuntimeError for a gradient on another device than what it is the gradient of.
    """
    gradients = {loss.grad_fn: [torch.ones_like(loss)]}
    with torch.no_grad():
        for node in functions_in_order(loss.grad_fn):
            given = gradients.pop(node, [])
            if all(gradient is None for gradient in given):
                continue
            made = node(*given)
            made = made if isinstance(made, tuple) else (made,)
            for (following, index), gradient in zip(node.next_functions, made, strict=False):
                if following is not None and gradient is not None:
                    inputs = gradients.setdefault(following, [None] * len(following._input_metadata))
                    gradient = as_expected(gradient, following._input_metadata[index], node)
                    inputs[index] = gradient if inputs[index] is None else inputs[index] + gradient


def functions_in_order(root) -> list:
    """Return the functions of a graph so that each comes before those that it passes gradients to."""
    order, seen, stack = [], {root}, [(root, iter(root.next_functions))]
    while stack:
        node, following = stack[-1]
        for successor, _ in following:
            if successor is not None and successor not in seen:
                seen.add(successor)
                stack.append((successor, iter(successor.next_functions)))
                break
        else:
            order.append(node)
            stack.pop()
    return order[::-1]


def as_expected(gradient: Tensor, expected, node) -> Tensor:
    """Return a gradient with the shape and dtype of what it is the gradient of, as the engine does."""
    if gradient.device != expected.device:
        raise RuntimeError(f"{node.name()} returned a gradient on {gradient.device}, not {expected.device}")
    return gradient.sum_to_size(tuple(expected.shape)).to(expected.dtype)
