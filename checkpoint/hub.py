"""Generators on the Hugging Face Hub: `HubGenerator.from_pretrained("name/of-repository")`.

What lies there is the project's own form, which `load_generator` reads, with a model card beside it.
"""

import json
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData, ModelHubMixin, snapshot_download

from checkpoint.project import (
    CONFIG_NAME,
    GENERATOR_FILES,
    PROGRESS_NAME,
    load_generator,
    weights_path,
    write_model,
)
from config import HiFiGANConfig
from model import Generator
from utils import read_json


class HubGenerator(Generator, ModelHubMixin):
    """A `Generator` with huggingface_hub's `from_pretrained`, `save_pretrained` and `push_to_hub`.

    `from_pretrained` takes a repository or a folder, in any form that `load_generator` reads. The other two
    take `model_card_kwargs`, the arguments of `model_card`.
    """

    validation: str | None = None  # how well the run it comes from did, for the model card

    def __init__(self, config: HiFiGANConfig | dict):
        super().__init__(config if isinstance(config, HiFiGANConfig) else HiFiGANConfig.from_dict(config))

    def _save_pretrained(self, save_directory: Path) -> None:
        write_model(save_directory, self.config, {"generator": self.state_dict()})

    @classmethod
    def _from_pretrained(cls, *, model_id: str, device: str = "cpu", config=None, **download):
        if Path(model_id).is_dir():
            return open_generator(Path(model_id), device)
        wanted = [CONFIG_NAME, *GENERATOR_FILES]
        return open_generator(Path(snapshot_download(model_id, allow_patterns=wanted, **download)), device)

    def generate_model_card(self, **card) -> ModelCard:
        return model_card(self, **{"metrics": self.validation} | {k: v for k, v in card.items() if v})


def open_generator(path: Path, device: str = "cpu") -> HubGenerator:
    generator = load_generator(path, device, HubGenerator)
    generator.validation = last_validation(weights_path(path).parent)
    return generator


def write_hub_folder(folder: Path, source: Path, **card: str | None) -> list[str]:
    """Write the model at `source` as it is to lie on the hub; gives, in lines, what there is to be said."""
    generator = open_generator(source)
    generator.save_pretrained(folder, model_card_kwargs=card)
    missing = [name for name in ("license", "training_data") if not card.get(name)]
    lines = [f"generator from {weights_path(source)}"]
    return [*lines, f"the model card does not say: {', '.join(missing)}"] if missing else lines


def last_validation(checkpoint: Path) -> str | None:
    """The mel loss of a training checkpoint in words, from its run's `metrics.jsonl`; None if not there."""
    progress, log = checkpoint / PROGRESS_NAME, checkpoint.parent / "metrics.jsonl"
    if not progress.is_file() or not log.is_file():
        return None
    steps = read_json(progress)["step"]
    text = None
    for line in log.read_text(encoding="utf-8").splitlines():
        if '"val_mel_loss"' in line and (record := json.loads(line))["step"] < steps:
            loss, done = record["val_mel_loss"], record["step"] + 1
            text = f"Mel L1 of {loss} after {done} steps: of the validation clips, in units of the mel scale."
    return text


def model_card(
    generator: Generator,
    license: str | None = None,
    training_data: str | None = None,
    metrics: str | None = None,
) -> ModelCard:
    """The README of a repository: what the model is and how to use it, its training data, how well it does.

    `license` is an identifier of the hub's (mit, cc-by-4.0, …).
    """
    config = generator.config
    data = ModelCardData(
        license=license or "unknown",
        pipeline_tag="text-to-speech",
        tags=["hifigan", "vocoder", "speech", "model_hub_mixin"],
    )
    size = sum(parameter.numel() for parameter in generator.parameters()) / 1e6
    top = f"{config.highest_frequency:g}"
    return ModelCard(f"""---
{data.to_yaml()}
---

# HiFi-GAN vocoder, {config.sampling_rate} Hz, {size:.2f} M parameters

Turns mel spectrograms into speech, as [HiFi-GAN](https://arxiv.org/abs/2010.05646).

```python
from checkpoint import HubGenerator  # of the project that trained it

vocoder = HubGenerator.from_pretrained("name/of-this-repository")
audio = vocoder(mel)  # (B, {config.num_mels}, frames) -> (B, 1, frames * {config.hop_size})
```

The mel has {config.num_mels} bands from {config.fmin:g} to {top} Hz, a frame every {config.hop_size} samples,
and the scale `{config.mel_scale}`; the configuration below has its other settings.

## Training data

{training_data or "Not stated."}

## Metrics

{metrics or "Not stated."}

## Licence

{license or "Not stated."}

## Configuration

```json
{json.dumps(config.to_dict(), indent=2)}
```
""")
