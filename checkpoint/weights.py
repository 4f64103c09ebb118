"""Load state dicts whose tensors have this project's names or the official HiFi-GAN's."""

import hashlib
import re
from pathlib import Path

import torch
from torch import Tensor, nn

from common.errors import UserError

# The suffixes of the older hooks for weight norm and spectral norm, which official checkpoints contain.
OFFICIAL_LEAVES = {
    "original0": "weight_g",
    "original1": "weight_v",
    "original": "weight_orig",
    "0._u": "weight_u",
    "0._v": "weight_v",
}


def official_name(key: str, model: nn.Module) -> str:
    """Return the official name of a tensor that is called `key` in `model`, or `key` if there is none."""
    key = re.sub(r"^(module\.)?(head\.)?", "", key)  # "module." comes from DistributedDataParallel
    key = re.sub(r"^fusions\.(\d+)\.(expand|reduce)\.", r"\2_convs.\1.", key)  # MISRNet
    key = re.sub(r"^fusions\.(\d+)\.block\.", r"resblocks.\1.", key)
    # The official code numbers residual blocks consecutively; ours and NVIDIA's are numbered within a stage.
    if match := re.match(r"(?:fusions\.(\d+)\.blocks|resblocks\.(\d+))\.(\d+)\.(.+)", key):
        stage, block = int(match[1] or match[2]), int(match[3])
        key = f"resblocks.{stage * len(model.config.resblock_kernel_sizes) + block}.{match[4]}"
    layer, parametrized, leaf = key.partition(".parametrizations.weight.")
    return f"{layer}.{OFFICIAL_LEAVES[leaf]}" if parametrized else key


def load_weights(model: nn.Module, state: dict[str, Tensor], source: Path) -> None:
    """Load a state dict into `model`; `source` appears in error messages.

    Weights under weight norm or spectral norm are read in three forms: as parametrizations, like those of
    `model`; under the names of PyTorch's older hooks (`weight_g` and `weight_v` for weight norm,
    `weight_orig`, `weight_u` and `weight_v` for spectral norm); and as plain weights with the norm folded in.
    A model on the meta device is moved to the CPU. Raises UserError for missing or unexpected
    tensors, wrong shapes, and values that can't be weights.
    """
    wanted = model.state_dict()
    renamed = rename_weights(model, state)
    missing, extra = sorted(wanted.keys() - renamed.keys()), sorted(renamed.keys() - wanted.keys())
    if missing or extra:
        found = f"{missing[0]} is missing" if missing else f"{extra[0]} is unexpected"
        raise UserError(
            f"{source} does not fit its configuration ({len(missing)} tensors missing, {len(extra)} left "
            f"over; {found}); check the config.json"
        )
    for key, tensor in renamed.items():
        if tensor.shape != wanted[key].shape:
            raise UserError(
                f"{source} does not fit its configuration: {key} is {tuple(tensor.shape)} in the file and "
                f"{tuple(wanted[key].shape)} in the model; check the config.json and the flags for the sizes"
            )
        check_values(tensor, wanted[key], f"{key} in {source}")
    is_meta = any(tensor.is_meta for tensor in wanted.values())
    if is_meta:  # copies, because results can depend on the alignment of the memory
        renamed = {
            key: torch.empty_like(wanted[key], device="cpu").copy_(tensor) for key, tensor in renamed.items()
        }
    model.load_state_dict(renamed, assign=is_meta)


def check_values(tensor: Tensor, wanted: Tensor, place: str) -> None:
    """Raise UserError if a file's tensor has integers in place of real numbers, or is not finite."""
    if wanted.is_floating_point() and not tensor.is_floating_point():
        raise UserError(f"{place} has values of {tensor.dtype}; name a file with floating-point weights")
    if not tensor.float().isfinite().all():
        raise UserError(f"{place} has values that are not finite; use an earlier checkpoint of the training")


def rename_weights(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return `state` under the names of `model.state_dict()`, with folded weights split for weight norm."""
    wanted = model.state_dict()
    ours = {official_name(key, model): key for key in wanted}
    renamed = {}
    for key, tensor in state.items():
        official = official_name(key, model)
        is_folded = official.endswith(".weight") and f"{official}_g" in ours
        name = ours.get(f"{official}_v" if is_folded else official, official)
        if name in wanted and tensor.shape == (*wanted[name].shape, 1):
            tensor = tensor.squeeze(-1)  # NVIDIA's code can run 1D convolutions as 2D convolutions
        if is_folded:
            # weight = g v / |v|, with the norm over all dimensions but the first: any weight is a valid v
            length = tensor.float().flatten(1).norm(dim=1).view(-1, *[1] * (tensor.dim() - 1))
            renamed[ours[f"{official}_g"]] = length
            tensor = torch.where(length == 0, 1, tensor)  # of a filter that is all zeros, whose g is 0
        renamed[name] = tensor
    return renamed


def weights_fingerprint(model: nn.Module) -> str:
    """Return the SHA-256 of a model's weights, which does not depend on the format they were read from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(
            name.encode() + tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        )
    return digest.hexdigest()
