"""Tacotron 2 checkpoints of NVIDIA, torchaudio and the tutorial, distinguished by their vocabularies.

A checkpoint is a pickle of a state dict, or of `{"state_dict": state_dict, …}`. The frames of NVIDIA and
torchaudio start half a hop earlier than ours.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from common.errors import UserError
from text import SYMBOLS

# (pattern of their names, replacement), applied in this order
NAMES = (
    (r"^module\.", ""),  # from DistributedDataParallel
    (r"\.(linear_layer|linear|conv)\.(weight|bias)$", r".\2"),  # most wrap each layer in another module
    # the tutorial's
    (r"^encoder\.embeddings\.", "embedding."),
    (r"^decoder\.prenet\.layers\.(\d+)\.0\.", r"decoder.prenet.layers.\1."),
    (r"^decoder\.rnn\.0\.", "decoder.attention_rnn."),
    (r"^decoder\.rnn\.1\.", "decoder.decoder_rnn."),
    (r"^decoder\.attention\.", "decoder.attention_layer."),
    (r"^(decoder\.attention_layer)\.in_proj\.", r"\1.query_layer."),
    (r"^(decoder\.attention_layer)\.enc_proj\.", r"\1.memory_layer."),
    (r"^(decoder\.attention_layer)\.energy_proj\.", r"\1.v."),
    (r"^(decoder\.attention_layer)\.what_have_i_said\.conv\.", r"\1.location_layer.location_conv."),
    (r"^(decoder\.attention_layer)\.what_have_i_said\.proj\.", r"\1.location_layer.location_dense."),
    (r"^decoder\.mel_proj\.", "decoder.linear_projection."),
    (r"^decoder\.stop_proj\.", "decoder.gate_layer."),
    (r"^decoder\.postnet\.convs\.", "postnet.convolutions."),
    # everybody's
    (r"convolutions\.(\d+)\.0\.", r"convolutions.\1.conv."),
    (r"convolutions\.(\d+)\.1\.", r"convolutions.\1.norm."),
    (r"^decoder\.decoder_rnn\.((weight|bias)_[ih]h)$", r"decoder.decoder_rnn.\1_l0"),  # a cell, not a layer
)
# Their substitutes for our symbols. The end symbol becomes the padding that followed their training texts.
# For unknown characters, which they skip, a space is the closest symbol. A quotation mark becomes an
# apostrophe, which is also silent and occurs at the ends of words in their texts; two consecutive spaces
# never occur.
SUBSTITUTES = {"<pad>": "_", "<end>": "_", "<unknown>": " ", '"': "'"}
# Their models are trained on natural logarithms, and on texts without an end symbol.
SETTINGS = {"mel_scale": "db", "inner_mel_scale": "ln", "end_symbol": False, "text_input": "characters"}


class Vocabulary(NamedTuple):
    """The characters that a project's models read, in the order of the embedding's rows."""

    symbols: str | tuple[str, ...]
    settings: Callable[[Path], dict] = lambda path: {}  # deviations from `SETTINGS`


def read_foreign_tacotron2(
    contents: object, path: Path, vocabularies: dict[int, Vocabulary]
) -> tuple[dict, dict[str, Tensor]]:
    """Return the settings of a `Tacotron2Config` and the weights under our names.

    `vocabularies` are the known ones by the size of their embedding; `path` appears in error messages. Raises
    UserError for contents that are not a Tacotron 2 and for other vocabularies.
    """
    state = contents.get("state_dict", contents) if isinstance(contents, dict) else {}
    state = rename_tacotron2_weights(state) if isinstance(state, dict) else {}
    try:
        sizes = read_sizes(state)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:  # missing or flat tensors
        raise UserError(
            f"{path} is not a Tacotron 2 checkpoint of this project, the tutorial, NVIDIA or torchaudio; "
            "name such a file, or a folder with config.json and tacotron2.safetensors"
        ) from error
    num_symbols = len(state["embedding.weight"])
    if num_symbols not in vocabularies:
        raise UserError(
            f"{path} has a vocabulary of {num_symbols} symbols; supported sizes are "
            f"{', '.join(map(str, vocabularies))}, which are letters and punctuation"
        )
    vocabulary = vocabularies[num_symbols]
    known = vocabulary.symbols
    rows = [known.index(symbol if symbol in known else SUBSTITUTES[symbol]) for symbol in SYMBOLS]
    state["embedding.weight"] = state["embedding.weight"][rows]
    return SETTINGS | vocabulary.settings(path) | sizes, state


def rename_tacotron2_weights(state: dict) -> dict[str, Tensor]:
    """Return the tensors of their state dict under our names."""
    renamed = {}
    for key, tensor in state.items():
        for theirs, ours in NAMES:
            key = re.sub(theirs, ours, str(key))
        if isinstance(tensor, Tensor):
            renamed[key] = tensor
    # batch norm did not count its batches before PyTorch 0.4.1
    norms = [key.removesuffix("running_mean") for key in renamed if key.endswith("running_mean")]
    return {f"{norm}num_batches_tracked": torch.tensor(0) for norm in norms} | renamed


def read_sizes(state: dict[str, Tensor]) -> dict[str, int]:
    """Return the fields of `Tacotron2Config` that follow from shapes. Raises KeyError for missing tensors."""

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
        "attention_query_bias": f"{attention}.query_layer.bias" in state,
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
