"""Reading and writing models.

A model on disk is a folder with `config.json` and `generator.safetensors`; a training checkpoint is such a
folder with the discriminators and what resuming needs beside them. `python -m checkpoint convert|export`
writes other forms.
"""

from typing import TYPE_CHECKING

from checkpoint.project import (
    CONFIG_NAME,
    GENERATOR_FILES,
    PROGRESS_NAME,
    TACOTRON2_FILE,
    TRANSFORMERS_FILES,
    config_path,
    discriminator_path,
    is_tacotron2,
    load_generator,
    load_generator_weights,
    load_on_device,
    load_plain_generator,
    load_pretrained,
    load_pretrained_tacotron2,
    load_tacotron2,
    load_weights,
    read_config,
    read_mel_config,
    read_pickle,
    read_settings,
    read_tacotron2_config,
    read_weights,
    save_model,
    weights_fingerprint,
    weights_path,
    write_model,
)

if TYPE_CHECKING:
    from checkpoint.hub import HubGenerator

__all__ = [
    "CONFIG_NAME",
    "GENERATOR_FILES",
    "PROGRESS_NAME",
    "TACOTRON2_FILE",
    "TRANSFORMERS_FILES",
    "HubGenerator",
    "config_path",
    "discriminator_path",
    "is_tacotron2",
    "load_generator",
    "load_generator_weights",
    "load_on_device",
    "load_plain_generator",
    "load_pretrained",
    "load_pretrained_tacotron2",
    "load_tacotron2",
    "load_weights",
    "read_config",
    "read_mel_config",
    "read_pickle",
    "read_settings",
    "read_tacotron2_config",
    "read_weights",
    "save_model",
    "weights_fingerprint",
    "weights_path",
    "write_model",
]


def __getattr__(name: str):
    if name == "HubGenerator":
        from checkpoint.hub import HubGenerator  # huggingface_hub is slow to import

        return HubGenerator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
