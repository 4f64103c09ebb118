"""Generators and voices on the Hugging Face Hub: `HubGenerator.from_pretrained("name/of-repository")`.

A repository contains a model in this project's format, or a voice, and a model card.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from huggingface_hub import HfApi, ModelCard, ModelCardData, ModelHubMixin, snapshot_download
from torch import Tensor, nn

from checkpoint.download import DISCRIMINATORS
from checkpoint.files import CONFIG_NAME, PROGRESS_NAME
from checkpoint.formats import vocos
from checkpoint.formats.project import write_model
from checkpoint.load import FORMATS, load_generator, weights_path
from checkpoint.pretrained import load_discriminators
from checkpoint.voices import Voice
from common.errors import UserError, one_line
from common.files import parse_object, read_json
from config import HiFiGANConfig
from generators.build import build_generator
from generators.vocos import Vocos
from model import Generator

ARCHITECTURES = {
    "hifigan": "[HiFi-GAN](https://arxiv.org/abs/2010.05646)",
    "vocos": "[Vocos](https://arxiv.org/abs/2306.00814)",
}
WANTED_FILES = [CONFIG_NAME, vocos.CONFIG_NAME, *(name for module in FORMATS for name in module.PATTERNS)]


class HubGenerator(nn.Module, ModelHubMixin):
    """A generator with huggingface_hub's `from_pretrained`, `save_pretrained` and `push_to_hub`.

    `from_pretrained` takes a repository or a folder in any format that `load_generator` reads. The other two
    methods take `model_card_kwargs`, the arguments of `model_card`. The attribute `generator` is the network.
    With `from_pretrained(…, discriminators=True)`, the discriminators next to it are loaded and saved, too.
    """

    validation: str | None = None  # validation result of the training run, for the model card
    discriminators: dict[str, nn.Module]  # by name, such as mpd

    def __init__(self, config: HiFiGANConfig | dict):
        super().__init__()
        config = config if isinstance(config, HiFiGANConfig) else HiFiGANConfig.from_dict(config)
        self.config, self.generator, self.discriminators = config, build_generator(config), {}

    def forward(self, mel: Tensor) -> Tensor:
        """Convert a mel (B, num_mels, T) to audio (B, 1, T * hop_size)."""
        return self.generator(mel)

    def stream(self, mels: Iterable[Tensor], max_frames: int = 512) -> Iterator[Tensor]:
        """Yield audio chunks (B, 1, n) for mel chunks (B, num_mels, t)."""
        return self.generator.stream(mels, max_frames)

    def _save_pretrained(self, save_directory: Path) -> None:
        models = {"generator": self.generator} | self.discriminators
        write_model(save_directory, self.config, {name: model.state_dict() for name, model in models.items()})

    @classmethod
    def _from_pretrained(
        cls, *, model_id: str, device: str = "cpu", discriminators: bool = False, config=None, **download
    ):
        folder = Path(model_id)
        if not folder.is_dir():
            wanted = WANTED_FILES + (DISCRIMINATORS if discriminators else [])
            folder = Path(snapshot_download(model_id, allow_patterns=wanted, **download))
        generator, file = load_generator(folder, device), weights_path(folder)
        opened = cls(generator.config).eval()
        opened.generator, opened.validation = generator, last_validation(file.parent)
        if discriminators:
            networks, found = load_discriminators(generator.config, file)
            opened.discriminators = {name: networks.get_submodule(name).to(device) for name in found}
        return opened

    def generate_model_card(self, **card) -> ModelCard:
        given = {name: value for name, value in card.items() if value}
        return model_card(self.generator, **{"metrics": self.validation} | given)


def vocoder_card(source: Path, **card: str | None) -> ModelCard:
    """Return the model card of the vocoder at `source`; see `model_card`."""
    given = {name: value for name, value in card.items() if value}
    metrics = {"metrics": last_validation(weights_path(source).parent)}
    return model_card(load_generator(source), **metrics | given)


def upload(folder: Path, repository: str) -> str:
    """Upload a folder, and return the address of the commit. Raises UserError if this fails."""
    try:
        api = HfApi()
        api.create_repo(repository, exist_ok=True)
        return str(api.upload_folder(repo_id=repository, folder_path=folder))
    except Exception as error:  # of the network, the Hub and its client
        raise UserError(
            f"can't upload {folder} to {repository}: {one_line(error)}; run `hf auth login`, then "
            f"`hf upload {repository} {folder}`"
        ) from error


def last_validation(checkpoint: Path) -> str | None:
    """Return the mel loss of a training checkpoint as a sentence, from its run's `metrics.jsonl`, or None."""
    progress, log = checkpoint / PROGRESS_NAME, checkpoint.parent / "metrics.jsonl"
    if not progress.is_file() or not log.is_file():
        return None
    steps = read_json(progress).get("step", 0)
    text = None
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if '"val_mel_loss"' not in line:
            continue
        try:
            record = parse_object(line, log)
        except UserError:  # half of a line, of a run that was killed
            continue
        loss, done = record["val_mel_loss"], record.get("step", steps) + 1
        if loss is not None and done <= steps:
            text = (
                f"Mel L1 on the validation clips: {loss:.4f} after {done} steps, in units of the mel scale."
            )
    return text


def model_card(
    generator: Generator | Vocos,
    license: str | None = None,
    training_data: str | None = None,
    metrics: str | None = None,
) -> ModelCard:
    """Return the README of a repository: purpose, usage, training data, metrics, license and configuration.

    `license` is one of the Hub's identifiers (mit, cc-by-4.0, …).
    """
    config = generator.config
    data = ModelCardData(
        license=license or "unknown",
        pipeline_tag="text-to-speech",
        tags=[config.generator, "vocoder", "speech", "model_hub_mixin"],
    )
    size = sum(parameter.numel() for parameter in generator.parameters()) / 1e6
    return ModelCard(f"""---
{data.to_yaml()}
---

# Neural vocoder, {config.sampling_rate} Hz, {size:.2f} M parameters

Converts mel spectrograms to speech. The architecture is {ARCHITECTURES[config.generator]}.

```python
from checkpoint import HubGenerator  # from the repository that trained this model

vocoder = HubGenerator.from_pretrained("name/of-this-repository")
audio = vocoder(mel)  # (B, {config.num_mels}, frames) -> (B, 1, frames * {config.hop_size})
```

The mel has {config.num_mels} bands from {config.fmin:g} to {config.highest_frequency:g} Hz, one frame per
{config.hop_size} samples, and the scale `{config.mel_scale}`. The configuration below contains all settings.

## Training data

{training_data or "Not stated."}

## Metrics

{metrics or "Not stated."}

## License

{license or "Not stated."}

## Configuration

```json
{json.dumps(config.to_dict(), indent=2)}
```
""")


def voice_card(voice: Voice, license: str | None = None) -> ModelCard:
    """Return the README of a voice's repository: usage, provenance and license."""
    data = ModelCardData(
        license=license or "unknown",
        language=voice.language.partition("-")[0],
        pipeline_tag="text-to-speech",
        tags=["tacotron2", "voice", "speech"],
    )
    return ModelCard(f"""---
{data.to_yaml()}
---

# Voice: {voice.title}

Speaks text in the language `{voice.language}`. The folder `tacotron2` has the model from text to mel
spectrograms, and `vocoder` the one from these to audio.

```bash
# in the repository that trained this voice
python inference.py --text "Any sentence of yours." --voice name/of-this-repository
```

## Provenance

{voice.provenance}

## License

{voice.license}
""")
