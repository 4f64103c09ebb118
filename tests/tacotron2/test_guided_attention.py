"""The guide that draws the attention to the diagonal, with and without an end."""

import numpy as np
import torch
from accelerate import Accelerator
from runs import as_own_process

from tacotron2.config import Tacotron2Config
from tacotron2.measures import attention_measures
from tacotron2.train import Tacotron2Options, Tacotron2Trainer, model_inputs
from text import PAD_ID, encode

CONFIG = Tacotron2Config(
    num_mels=16, fmax=None, character_embed_dim=32, encoder_embed_dim=32, encoder_n_convolutions=1,
    encoder_kernel_size=3, attention_rnn_dim=64, attention_dim=32, attention_location_n_filters=8,
    attention_location_kernel_size=7, decoder_rnn_dim=64, decoder_prenet_dim=32, decoder_postnet_num_convs=2,
    decoder_postnet_n_filters=16, frames_per_step=4, encoder_dropout_p=0, attention_dropout_p=0,
    decoder_dropout_p=0, decoder_postnet_dropout_p=0,
)  # fmt: skip
LETTERS = "abcdefgh"
STEPS = 150


class Language:
    """Sentences whose letters are short sounds and whose commas are long pauses."""

    def __init__(self, seed: int):
        self.random = np.random.default_rng(seed)
        sounds = np.random.default_rng(0).normal(1.0, 1.0, (len(LETTERS), CONFIG.num_mels))
        self.sounds = dict(zip(LETTERS, torch.from_numpy(sounds).float(), strict=True))

    def sentence(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens (L,) and a mel (num_mels, T)."""
        text, frames = "", []
        length = self.random.integers(5, 8)
        commas = self.random.choice(np.arange(1, length - 1), 2, replace=False)
        for place in range(length):
            letter = self.random.choice(list(LETTERS))
            text += letter
            frames += [self.sounds[letter]] * int(self.random.integers(4, 7))
            if place in commas:
                text += ","
                frames += [torch.full((CONFIG.num_mels,), -3.8)] * int(self.random.integers(16, 32))
        return torch.tensor(encode(text)), torch.stack(frames, 1)

    def batch(self, size: int) -> dict[str, torch.Tensor]:
        tokens, mels = zip(*(self.sentence() for _ in range(size)), strict=True)
        padded = torch.nn.utils.rnn.pad_sequence(
            [mel.T for mel in mels], batch_first=True, padding_value=CONFIG.silence
        ).transpose(1, 2)
        return {
            "tokens": torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=PAD_ID),
            "token_lengths": torch.tensor([len(text) for text in tokens]),
            "mel": padded + 0.1 * torch.from_numpy(self.random.normal(size=padded.shape)).float(),
            "mel_lengths": torch.tensor([mel.shape[1] for mel in mels]),
            "speakers": torch.zeros(size, dtype=torch.long),
        }


def rest_after_training(tmp_path, guided_attention_steps: int) -> tuple[float, list[dict]]:
    """Train a model; return its mean `attention_rest` on new sentences and the losses of each step."""
    options = Tacotron2Options(
        experiment_name="run", working_directory=tmp_path, path_to_train_manifest=tmp_path,
        path_to_val_manifest=tmp_path, learning_rate=0.003, guided_attention_weight=5.0,
        guided_attention_steps=guided_attention_steps,
    )  # fmt: skip
    language = Language(seed=1)
    with as_own_process():
        torch.manual_seed(0)
        trainer = Tacotron2Trainer(Accelerator(cpu=True), options, CONFIG)
        losses = [trainer.step([language.batch(12)], step) for step in range(STEPS)]
    batch = Language(seed=2).batch(16)
    with torch.no_grad():
        attention = trainer.model.eval()(*model_inputs(batch)).attention
    found = []
    for row, frames in enumerate(batch["mel_lengths"].tolist()):
        steps, tokens = -(-frames // CONFIG.frames_per_step), int(batch["token_lengths"][row])
        mel = batch["mel"][row, :, :frames]
        measures = attention_measures(attention[row, :steps, :tokens], mel, CONFIG, CONFIG.frames_per_step)
        found.append(measures["attention_rest"])
    return float(np.mean(found)), losses


def test_the_attention_waits_in_pauses_only_if_the_guide_ends(tmp_path):
    fading, losses = rest_after_training(tmp_path, guided_attention_steps=60)
    assert ["attention_loss" in values for values in losses] == [True] * 60 + [False] * (STEPS - 60)
    guided, _ = rest_after_training(tmp_path, guided_attention_steps=10_000)
    assert fading > guided + 0.1, (fading, guided)
