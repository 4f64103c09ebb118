"""What the other HiFi-GANs call the parts of ours: the official one, MISRNet's, NVIDIA's and transformers'.

At the end, the same of the other Tacotron 2s, NVIDIA's and torchaudio's. State dicts, configurations and
optimizer states, as dicts; `checkpoint/project.py` reads and writes the files.
"""

import json
import math
import re
import string
from pathlib import Path

import torch
from torch import Tensor, nn

from config import HiFiGANConfig
from model import LEAKY_SLOPE, Discriminators, Generator
from tacotron2.text import SYMBOLS
from utils import UserError

# Names of weights.

OFFICIAL_LEAVES = {  # the older hooks for weight and spectral norm keep what ours keep under other names
    "original0": "weight_g",
    "original1": "weight_v",
    "original": "weight_orig",
    "0._u": "weight_u",
    "0._v": "weight_v",
}
# The order in which the official generators make their layers, and so number their optimizer's parameters.
OFFICIAL_ORDER = ("conv_pre", "ups", "expand_convs", "reduce_convs", "resblocks", "conv_post")


def official_name(key: str, model: nn.Module) -> str:
    """What the official state dict calls what `key` names in ours, NVIDIA's or transformers'; else `key`."""
    key = re.sub(r"^(module\.)?(head\.)?", "", key)  # of a parallel model; ours
    key = re.sub(r"^upsampler\.", "ups.", key)  # transformers
    key = re.sub(r"^fusions\.(\d+)\.(expand|reduce)\.", r"\2_convs.\1.", key)  # MISRNet
    key = re.sub(r"^fusions\.(\d+)\.block\.", r"resblocks.\1.", key)
    # ours and NVIDIA's blocks are numbered within their stage, the official ones straight through
    if match := re.match(r"(?:fusions\.(\d+)\.blocks|resblocks\.(\d+))\.(\d+)\.(.+)", key):
        stage, block = int(match[1] or match[2]), int(match[3])
        key = f"resblocks.{stage * len(model.config.resblock_kernel_sizes) + block}.{match[4]}"
    layer, parametrized, leaf = key.partition(".parametrizations.weight.")
    return f"{layer}.{OFFICIAL_LEAVES[leaf]}" if parametrized else key


def official_place(name: str) -> int:
    part = name.partition(".")[0]
    return OFFICIAL_ORDER.index(part) if part in OFFICIAL_ORDER else 0


def official_weights(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of a model under its official names, in the official order."""
    state = {official_name(key, model): tensor.cpu() for key, tensor in model.state_dict().items()}
    return {name: state[name] for name in sorted(state, key=official_place)}


# The official code's config.json and do_….

OFFICIAL_BANDS = 80  # a constant in the official generator
OFFICIAL_DISCRIMINATORS = {
    "mpd_periods": (2, 3, 5, 7, 11),
    "msd_num_downsamples": 2,
    "discriminator_channels": 1024,
}
# What the official config.json says of the training, where our models say nothing: its published values.
OFFICIAL_TRAINING = {
    "num_gpus": 0,
    "batch_size": 16,
    "learning_rate": 0.0002,
    "adam_b1": 0.8,
    "adam_b2": 0.99,
    "lr_decay": 0.999,
    "seed": 1234,
    "segment_size": 8192,
    "num_workers": 4,
    "dist_config": {"dist_backend": "nccl", "dist_url": "tcp://localhost:54321", "world_size": 1},
}


def check_official(config: HiFiGANConfig) -> None:
    """Raise UserError for a generator that the official code has no place for."""
    num_dilations = {"1": 3, "2": 2}[config.resblock]
    lists = [config.resblock_dilation_sizes] if config.fusion == "misr" else config.resblock_dilation_sizes
    obstacles = {
        f"upsampling is {config.upsampling!r}": config.upsampling != "transpose",
        "it ends in an inverse Fourier transform": config.gen_istft_n_fft is not None,
        f"num_mels is {config.num_mels}, not {OFFICIAL_BANDS}": config.num_mels != OFFICIAL_BANDS,
        f"resblock {config.resblock} has {num_dilations} dilations there, and here "
        f"{' and '.join(str(len(one)) for one in lists)}": any(len(one) != num_dilations for one in lists),
    }
    for obstacle, is_there in obstacles.items():
        if is_there:
            raise UserError(f"the official code can't hold this generator: {obstacle}; --to hub can")


def official_settings(config: HiFiGANConfig, training: dict) -> dict:
    """The official config.json; numbers of the training are taken from `training` where it has them."""
    misr, mrf = ("resblock_num", "resblock_kernel_size"), ("resblock_kernel_sizes",)
    names = (
        "upsample_rates", "upsample_kernel_sizes", "upsample_initial_channel",
        *(misr if config.fusion == "misr" else mrf), "resblock_dilation_sizes",
        "num_mels", "n_fft", "hop_size", "sampling_rate", "fmin", "fmax",
    )  # fmt: skip
    return {
        "resblock": config.resblock,
        **{name: training.get(name, value) for name, value in OFFICIAL_TRAINING.items()},
        **{name: getattr(config, name) for name in names},
        "num_freq": config.n_fft + 1,
        "win_size": config.window_size,
        "fmax_for_loss": config.fmax_loss,
    }


def official_training_state(
    generator: Generator, discriminators: Discriminators, optimizers: tuple[dict, dict] | None
) -> dict:
    """The official do_… but for its counters; `optimizers` are the states of ours, None: they start anew."""
    ours_g = [official_name(key, generator) for key, _ in generator.named_parameters()]
    ours_d = [
        f"{name}.{official_name(key, model)}"
        for name, model in discriminators.named_children()
        for key, _ in model.named_parameters()
    ]
    official_g = sorted(ours_g, key=official_place)
    official_d = [name for part in ("msd.", "mpd.") for name in ours_d if name.startswith(part)]
    saved_g, saved_d = optimizers or (None, None)
    return {
        "mpd": official_weights(discriminators.mpd),
        "msd": official_weights(discriminators.msd),
        "optim_g": official_optimizer(saved_g, ours_g, official_g),
        "optim_d": official_optimizer(saved_d, ours_d, official_d),
    }


def official_optimizer(saved: dict | None, ours: list[str], official: list[str]) -> dict:
    """The state of AdamW, its parameters renumbered from the order of names `ours` to the official one."""
    if saved is None:
        learning_rate = OFFICIAL_TRAINING["learning_rate"]
        betas = (OFFICIAL_TRAINING["adam_b1"], OFFICIAL_TRAINING["adam_b2"])
        saved = torch.optim.AdamW([torch.zeros(1)], learning_rate, betas).state_dict()
    numbers = [ours.index(name) for name in official]
    state, group = saved["state"], saved["param_groups"][0]
    return {
        "state": {new: state[old] for new, old in enumerate(numbers) if old in state},
        "param_groups": [
            # the official scheduler looks for an initial_lr
            {"initial_lr": group["lr"]} | group | {"fused": None, "params": list(range(len(numbers)))}
        ],
    }


# NVIDIA's DeepLearningExamples.

NVIDIA_NAMES = {
    "filter_length": "n_fft",
    "hop_length": "hop_size",
    "win_length": "window_size",
    "mel_fmin": "fmin",
    "mel_fmax": "fmax",
    "mel_fmax_loss": "fmax_loss",
}


def nvidia_settings(contents: dict) -> dict:
    """Of a checkpoint: its `config` has the generator's sizes, its `train_setup` the mel's.

    What is missing has the default of their `train.py`. Such a file may also hold averaged weights, as
    `gen_ema`; their `inference.py` passes them over, and so do we.
    """
    values = {"resblock_kernel_sizes": (11, 7, 3)} | (contents.get("train_setup") or {}) | contents["config"]
    return {NVIDIA_NAMES.get(name, name): value for name, value in values.items()}


# Transformers: SpeechT5HifiGan and FastSpeech2ConformerHifiGan.

# Their config.json says nothing of the mel. These are the settings of SpeechT5's feature extractor and of
# ESPnet's recipe for FastSpeech 2; their frames lie half a hop earlier than ours, and ESPnet normalizes its
# mels besides. For other mels, write the right settings into the config.json, by the names in `MelConfig`.
TRANSFORMERS_MEL = {
    "n_fft": 1024,
    "window_size": 1024,
    "fmin": 80.0,
    "fmax": 7600.0,
    "mel_scale": "log10",
    "min_db": -200.0,
}


def is_transformers(values: dict) -> bool:
    return "model_in_dim" in values


def transformers_settings(values: dict, path: Path) -> dict:
    slope = values.get("leaky_relu_slope", LEAKY_SLOPE)
    if slope != LEAKY_SLOPE:
        raise UserError(f"{path} has a leaky_relu_slope of {slope}; generators here have {LEAKY_SLOPE}")
    kind = json.dumps([values.get("architectures"), values.get("model_type")]).lower()
    sizes = {
        "sampling_rate": 22050 if "fastspeech2" in kind else 16000,
        "num_mels": values["model_in_dim"],
        "hop_size": math.prod(values.get("upsample_rates", ())),
    }
    return TRANSFORMERS_MEL | sizes | values


def transformers_weights(state: dict[str, Tensor], values: dict) -> dict[str, Tensor]:
    """Their state dict, with what normalizes the mel as the first part of `conv_pre`."""
    norm = {f"conv_pre.0.{name}": state[name].reshape(-1, 1) for name in ("mean", "scale") if name in state}
    state = {key: value for key, value in state.items() if key not in ("mean", "scale")}
    if not norm or not values.get("normalize_before", True):
        return state
    return norm | {re.sub(r"^conv_pre\.", "conv_pre.1.", key): value for key, value in state.items()}


class InputNorm(nn.Module):
    """Mel (B, num_mels, T) to (mel - mean) / scale, band by band: the first step of transformers' vocoders.

    A layer of its own, because the convolution behind it pads what comes out of it: folded into that, it
    would be inexact at the ends.
    """

    def __init__(self, num_mels: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_mels, 1))
        self.register_buffer("scale", torch.ones(num_mels, 1))

    def forward(self, mel: Tensor) -> Tensor:
        return (mel - self.mean) / self.scale


# Tacotron 2: NVIDIA's repository of that name and its DeepLearningExamples, and torchaudio's.

# (theirs, ours), applied in this order
TACOTRON2_NAMES = (
    (r"^module\.", ""),  # of a parallel model
    (r"\.(linear_layer|conv)\.(weight|bias)$", r".\2"),  # NVIDIA's layers are each wrapped in another
    (r"convolutions\.(\d+)\.0\.", r"convolutions.\1.conv."),
    (r"convolutions\.(\d+)\.1\.", r"convolutions.\1.norm."),
    (r"^decoder\.decoder_rnn\.((weight|bias)_[ih]h)$", r"decoder.decoder_rnn.\1_l0"),  # a cell, not a layer
)

# The characters of each vocabulary, by its size; NVIDIA's goes on with 84 phonemes. What they train on is in
# lower case: the rows of the upper case are as they were drawn.
TACOTRON2_SYMBOLS = {
    38: "_-!'(),.:;? " + string.ascii_lowercase,
    148: "_-!'(),.:;? " + string.ascii_uppercase + string.ascii_lowercase,
}
# What those lack. Their padding is what followed a text in their batches. They pass over what they don't
# know, and nothing is nearer to that than a space. A quotation mark becomes an apostrophe, which is as silent
# and has been seen at either end of a word; a second space beside a space has never been seen.
TACOTRON2_STAND_INS = {"<pad>": "_", "<end>": "_", "<unknown>": " ", '"': "'"}

# Of their defaults. The frames of either lie half a hop earlier than ours.
TACOTRON2_MEL = {
    "sampling_rate": 22050,
    "n_fft": 1024,
    "window_size": 1024,
    "hop_size": 256,
    "fmin": 0.0,
    "fmax": 8000.0,
}
# Of torchaudio's TACOTRON2_WAVERNN_CHAR_LJSPEECH: nothing but the file's name tells it from the other one.
TACOTRON2_WAVERNN_MEL = {"n_fft": 2048, "window_size": 1100, "hop_size": 275, "fmin": 40.0, "fmax": 11025.0}


def other_tacotron2(contents: object, path: Path) -> tuple[dict, dict[str, Tensor]]:
    """What a file of theirs holds, as the settings of a `Tacotron2Config` and the weights under our names.

    `path` is for the error messages. Raises UserError for what is no Tacotron 2, or has another vocabulary.
    """
    state = contents.get("state_dict", contents) if isinstance(contents, dict) else {}
    state = tacotron2_weights(state) if isinstance(state, dict) else {}
    try:
        sizes = tacotron2_sizes(state)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:  # a part is missing, or flat
        raise UserError(
            f"{path} is no Tacotron 2 of NVIDIA's or torchaudio's; name such a file, or a folder with "
            "config.json and tacotron2.safetensors"
        ) from error
    num_symbols = len(state["embedding.weight"])
    if num_symbols not in TACOTRON2_SYMBOLS:
        raise UserError(
            f"{path} has a vocabulary of {num_symbols} symbols; of other people's models, those of "
            f"{' or '.join(map(str, TACOTRON2_SYMBOLS))} are read, which are letters and punctuation"
        )
    theirs = TACOTRON2_SYMBOLS[num_symbols]
    rows = [theirs.index(TACOTRON2_STAND_INS.get(symbol, symbol)) for symbol in SYMBOLS]
    state["embedding.weight"] = state["embedding.weight"][rows]
    mel = TACOTRON2_MEL | (TACOTRON2_WAVERNN_MEL if "wavernn" in path.name else {})
    # trained on natural logarithms, and on texts that nothing ends
    return {**mel, **sizes, "inner_mel_scale": "ln", "end_symbol": False}, state


def tacotron2_weights(state: dict) -> dict[str, Tensor]:
    """The tensors of their state dict under our names."""
    renamed = {}
    for key, tensor in state.items():
        for theirs, ours in TACOTRON2_NAMES:
            key = re.sub(theirs, ours, str(key))
        if isinstance(tensor, Tensor):
            renamed[key] = tensor
    # batch norm did not count its batches before PyTorch 0.4.1
    norms = [key.removesuffix("running_mean") for key in renamed if key.endswith("running_mean")]
    return {f"{norm}num_batches_tracked": torch.tensor(0) for norm in norms} | renamed


def tacotron2_sizes(state: dict[str, Tensor]) -> dict[str, int]:
    """The fields of `Tacotron2Config` that shapes tell. Raises KeyError for a part that is not there."""

    def count(layers: str) -> int:
        return len({match[1] for key in state if (match := re.match(rf"{layers}\.(\d+)\.", key))})

    attention = "decoder.attention_layer"
    width, _, encoder_kernel_size = state["encoder.convolutions.0.conv.weight"].shape
    filters, _, location_kernel_size = state[f"{attention}.location_layer.location_conv.weight"].shape
    postnet_filters, num_mels, postnet_kernel_size = state["postnet.convolutions.0.conv.weight"].shape
    prenet_dim, made = state["decoder.prenet.layers.0.weight"].shape
    return {
        "num_mels": num_mels,
        "num_symbols": len(SYMBOLS),
        "character_embed_dim": state["embedding.weight"].shape[1],
        "encoder_embed_dim": width,
        "encoder_n_convolutions": count("encoder.convolutions"),
        "encoder_kernel_size": encoder_kernel_size,
        "attention_rnn_dim": state["decoder.attention_rnn.weight_hh"].shape[1],
        "attention_dim": state[f"{attention}.query_layer.weight"].shape[0],
        "attention_location_n_filters": filters,
        "attention_location_kernel_size": location_kernel_size,
        "decoder_rnn_dim": state["decoder.decoder_rnn.weight_hh_l0"].shape[1],
        "decoder_prenet_dim": prenet_dim,
        "decoder_prenet_depth": count("decoder.prenet.layers"),
        "decoder_postnet_num_convs": count("postnet.convolutions"),
        "decoder_postnet_n_filters": postnet_filters,
        "decoder_postnet_kernel_size": postnet_kernel_size,
        "frames_per_step": made // num_mels,
    }
