"""Reading and writing models.

A model is a folder with `config.json` and `generator.safetensors` or `tacotron2.safetensors`. Models of other
projects are read too, by one module per format; `load.FORMATS` lists them. `python -m checkpoint convert` and
`export` write other formats.
"""

from checkpoint.files import CONFIG_NAME, PROGRESS_NAME, read_pickle, read_weights
from checkpoint.formats.project import save_model, write_model
from checkpoint.load import (
    TACOTRON2_FILE,
    is_tacotron2,
    load_generator,
    load_tacotron2,
    read_config,
    read_mel_config,
    read_tacotron2_config,
)
from checkpoint.pretrained import load_pretrained, load_pretrained_tacotron2
from checkpoint.weights import load_weights, weights_fingerprint


def __getattr__(name: str):
    if name == "HubGenerator":
        from checkpoint.hub import HubGenerator  # huggingface_hub is slow to import

        return HubGenerator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
