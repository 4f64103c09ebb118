"""Published Vocos models: `config.yaml` and `pytorch_model.bin` or `model.safetensors` (gemelo-ai/vocos)."""

from pathlib import Path

from torch import Tensor

from checkpoint import files
from checkpoint.files import folder_of
from common.errors import UserError, one_line

CONFIG_NAME = "config.yaml"
PATTERNS = ("pytorch_model.bin", "model.safetensors")
MIN_DB = -140.0  # their mels are clamped at an amplitude of 1e-7
# The supported classes. Other models read EnCodec tokens or end in another transform.
CLASSES = {"feature_extractor": "MelSpectrogramFeatures", "backbone": "VocosBackbone", "head": "ISTFTHead"}


def matches(path: Path) -> bool:
    """Return whether `path` is a folder with a `config.yaml`, or a file of weights in such a folder."""
    return (path.is_dir() or path.name in PATTERNS) and (folder_of(path) / CONFIG_NAME).is_file()


def read_settings(path: Path) -> dict:
    """Return the settings of a `HiFiGANConfig`. Raises UserError for a Vocos that does not read mels."""
    import yaml

    path = folder_of(path) / CONFIG_NAME
    try:
        parts = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
        classes = {name: parts[name]["class_path"].rpartition(".")[2] for name in CLASSES}
        mel, backbone, head = (parts[name]["init_args"] for name in CLASSES)
        settings = {
            "generator": "vocos",
            "vocos_dim": backbone["dim"],
            "vocos_intermediate_dim": backbone["intermediate_dim"],
            "vocos_num_layers": backbone["num_layers"],
            "sampling_rate": mel.get("sample_rate", 24000),
            "n_fft": mel.get("n_fft", 1024),
            "window_size": mel.get("n_fft", 1024),
            "hop_size": mel.get("hop_length", 256),
            "num_mels": mel.get("n_mels", 100),
            "padding": mel.get("padding", "center"),
        }
        head_settings = (head["n_fft"], head["hop_length"], head.get("padding", "same"))
    except (
        OSError,
        yaml.YAMLError,
        TypeError,
        KeyError,
        AttributeError,
        ValueError,
        RecursionError,
    ) as error:
        raise UserError(f"can't read the configuration {path}: {one_line(error)}") from error
    if classes != CLASSES or backbone.get("adanorm_num_embeddings"):
        raise UserError(f"{path} is not a supported Vocos: it has {', '.join(classes.values())}")
    if head_settings != (settings["n_fft"], settings["hop_size"], settings["padding"]):
        raise UserError(f"{path} has other Fourier transforms in its head than in its mel: {head_settings}")
    fixed = {"fmin": 0.0, "fmax": None, "mel_scale": "ln", "min_db": MIN_DB, "mel_filters": "htk"}
    return settings | fixed


def read_weights(file: Path) -> dict[str, Tensor]:
    """Return the state dict without the constants of the mel and of the inverse Fourier transform."""
    return {
        key.removeprefix("backbone."): tensor
        for key, tensor in files.read_weights(file).items()
        if not key.startswith(("feature_extractor.", "head.istft."))
    }
