"""Export a vocoder to a TensorFlow SavedModel: `python -m checkpoint export --to tensorflow`.

The layers of `model.py` and `generators/` are repeated in TensorFlow, in the same order and with the same
weights. Tensors have its layout: mels (B, T, num_mels), features (B, N, channels), audio (B, samples, 1).
"""

import json
from collections.abc import Callable
from functools import singledispatchmethod
from pathlib import Path

import torch
import torch._dynamo  # loads Triton, which crashes if TensorFlow was loaded first
from torch import Tensor, nn

# isort: split
import tensorflow as tf

from checkpoint.files import CONFIG_NAME
from checkpoint.formats.transformers import InputNorm
from generators.variants import MOST_MATCHED, InverseSTFTHead, MelMatch, MultiInputSharedResidual
from generators.vocos import ConvNeXtBlock, FourierHead, InverseSTFT, Vocos
from model import LEAKY_SLOPE, Generator, MultiReceptiveFieldFusion, ResBlock1, ResBlock2, WaveformHead

Layer = Callable[[tf.Tensor], tf.Tensor]


def export_tensorflow(generator: Generator | Vocos, folder: Path) -> None:
    """Write a SavedModel, and the configuration as `config.json` in its folder."""
    module = VocoderModule(generator)
    serve = tf.function(lambda mels: {"audio": module.inference(mels)}, module.inference.input_signature)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})
    text = json.dumps(generator.config.to_dict(), indent=2) + "\n"
    (folder / CONFIG_NAME).write_text(text, encoding="utf-8")


def load_tensorflow(folder: Path) -> Callable[[Tensor], Tensor]:
    """Return the SavedModel as a function from mel (B, num_mels, T) to audio (B, 1, samples) in PyTorch."""
    module = tf.saved_model.load(str(folder))
    return lambda mel: torch.from_numpy(module.inference(mel.transpose(1, 2).numpy()).numpy()).transpose(1, 2)


class VocoderModule(tf.Module):
    """A generator whose weight norm is folded, with the method `inference` of TensorFlowTTS's vocoders."""

    def __init__(self, generator: Generator | Vocos):
        super().__init__()
        self.weights: list[tf.Variable] = []  # an attribute, so that the SavedModel contains them
        vocode = self.layer(generator)
        mels = tf.TensorSpec((None, None, generator.config.num_mels), tf.float32, name="mels")
        self.inference = tf.function(lambda mels: vocode(mels), [mels])

    def weight(self, tensor: Tensor) -> tf.Variable:
        self.weights.append(tf.Variable(tensor.detach().numpy(), trainable=False))
        return self.weights[-1]

    @singledispatchmethod
    def layer(self, module: nn.Module) -> Layer:
        """Return the TensorFlow function of a PyTorch module, whose weights become part of this module."""
        raise NotImplementedError(type(module))

    @layer.register
    def _(self, module: Generator) -> Layer:
        stages = []
        for upsample, fuse in zip(module.ups, module.fusions, strict=True):
            stages += [leaky_relu, self.layer(upsample), self.layer(fuse)]
        vocode = chain(self.layer(module.conv_pre), *stages, self.layer(module.head))
        if (match := getattr(module, "match", None)) is None:
            return vocode
        return lambda mel: match_mel(match, vocode(mel), mel)

    @layer.register
    def _(self, module: nn.Sequential) -> Layer:
        return chain(*map(self.layer, module))

    @layer.register
    def _(self, module: nn.Conv1d) -> Layer:
        bias, dilation = self.weight(module.bias), module.dilation[0]
        if module.groups == 1:
            kernel = self.weight(module.weight.permute(2, 1, 0))  # (kernel_size, in, out)
            return lambda x: tf.nn.conv1d(x, kernel, 1, "SAME", dilations=dilation) + bias
        # depthwise, as an image of height 1: (1, kernel_size, in, 1)
        kernel = self.weight(module.weight.permute(1, 2, 0).unsqueeze(3))
        return lambda x: tf.nn.depthwise_conv2d(x[:, None], kernel, [1] * 4, "SAME")[:, 0] + bias

    @layer.register
    def _(self, module: nn.ConvTranspose1d) -> Layer:
        kernel, bias = self.weight(module.weight.permute(2, 1, 0)), self.weight(module.bias)
        (rate,), (padding,) = module.stride, module.padding
        kernel_size, channels, _ = kernel.shape

        def upsample(x):
            batch, frames = tf.unstack(tf.shape(x)[:2])
            length = (frames - 1) * rate + kernel_size
            x = tf.nn.conv1d_transpose(x, kernel, [batch, length, channels], rate, "VALID")
            return x[:, padding : length - padding] + bias

        return upsample

    @layer.register
    def _(self, module: nn.Upsample) -> Layer:
        return lambda x: tf.repeat(x, int(module.scale_factor), axis=1)

    @layer.register
    def _(self, module: nn.Linear) -> Layer:
        weight, bias = self.weight(module.weight.T), self.weight(module.bias)
        return lambda x: x @ weight + bias

    @layer.register
    def _(self, module: nn.LayerNorm) -> Layer:
        weight, bias = self.weight(module.weight), self.weight(module.bias)

        def normalize(x):
            mean, variance = tf.nn.moments(x, axes=[-1], keepdims=True)
            return (x - mean) * tf.math.rsqrt(variance + module.eps) * weight + bias

        return normalize

    @layer.register
    def _(self, module: InputNorm) -> Layer:
        mean, scale = self.weight(module.mean[:, 0]), self.weight(module.scale[:, 0])
        return lambda x: (x - mean) / scale

    @layer.register
    def _(self, module: ResBlock1) -> Layer:
        pairs = zip(module.convs1, module.convs2, strict=True)
        return chain(*(shortcut(leaky_relu, self.layer(a), leaky_relu, self.layer(b)) for a, b in pairs))

    @layer.register
    def _(self, module: ResBlock2) -> Layer:
        return chain(*(shortcut(leaky_relu, self.layer(conv)) for conv in module.convs))

    @layer.register
    def _(self, module: MultiReceptiveFieldFusion) -> Layer:
        blocks = [self.layer(block) for block in module.blocks]
        return lambda x: tf.add_n([block(x) for block in blocks]) / len(blocks)

    @layer.register
    def _(self, module: MultiInputSharedResidual) -> Layer:
        expand, block, reduce = map(self.layer, (module.expand, module.block, module.reduce))

        def fuse(x):
            batch, length, channels = *tf.unstack(tf.shape(x)[:2]), x.shape[2]
            x = tf.reshape(expand(x), [batch, length, module.num, channels])
            x = block(tf.reshape(tf.transpose(x, [0, 2, 1, 3]), [-1, length, channels]))
            x = tf.transpose(tf.reshape(x, [batch, module.num, length, channels]), [0, 2, 1, 3])
            return reduce(tf.reshape(x, [batch, length, module.num * channels]))

        return fuse

    @layer.register
    def _(self, module: ConvNeXtBlock) -> Layer:
        gamma, gelu = self.weight(module.gamma), lambda x: tf.nn.gelu(x, approximate=False)
        convolve, normalize, widen, narrow = map(
            self.layer, (module.dwconv, module.norm, module.pwconv1, module.pwconv2)
        )
        return shortcut(convolve, normalize, widen, gelu, narrow, lambda x: gamma * x)

    @layer.register
    def _(self, module: Vocos) -> Layer:
        parts = (module.embed, module.norm, module.convnext, module.final_layer_norm, module.head)
        return chain(*map(self.layer, parts))

    @layer.register
    def _(self, module: WaveformHead) -> Layer:
        return chain(lambda x: tf.nn.leaky_relu(x, 0.01), self.layer(module.conv_post), tf.tanh)

    @layer.register
    def _(self, module: InverseSTFTHead) -> Layer:
        convolve = self.layer(module.conv_post)

        def head(x):
            x = tf.nn.leaky_relu(x, 0.01)
            x = tf.concat([x[:, :2][:, -1:], x], axis=1)  # reflected
            log_magnitude, phase = tf.split(convolve(x), 2, axis=-1)
            return inverse_stft(module.istft, polar(tf.exp(log_magnitude), tf.sin(phase)))

        return head

    @layer.register
    def _(self, module: FourierHead) -> Layer:
        project = self.layer(module.out)

        def head(x):
            log_magnitude, phase = tf.split(project(x), 2, axis=-1)
            return inverse_stft(module.istft, polar(tf.minimum(tf.exp(log_magnitude), 100.0), phase))

        return head


def leaky_relu(x: tf.Tensor) -> tf.Tensor:
    return tf.nn.leaky_relu(x, LEAKY_SLOPE)


def chain(*layers: Layer) -> Layer:
    def apply(x):
        for layer in layers:
            x = layer(x)
        return x

    return apply


def shortcut(*layers: Layer) -> Layer:
    apply = chain(*layers)
    return lambda x: x + apply(x)


def polar(magnitude: tf.Tensor, phase: tf.Tensor) -> tf.Tensor:
    return tf.complex(magnitude * tf.cos(phase), magnitude * tf.sin(phase))


def inverse_stft(istft: InverseSTFT, spectrum: tf.Tensor) -> tf.Tensor:
    """Return the audio (B, samples, 1) of a complex spectrum (B, T, n_fft / 2 + 1)."""
    window = tf.constant(istft.window.numpy())
    frames = tf.signal.irfft(spectrum, [istft.n_fft]) * window  # (B, T, n_fft)
    audio = tf.signal.overlap_and_add(frames, istft.hop_size)
    squares = tf.ones_like(frames[:1]) * window**2
    envelope = tf.signal.overlap_and_add(squares, istft.hop_size)
    before, after = istft.padding
    inside = slice(before, tf.shape(audio)[1] - after)
    return (audio[:, inside] / envelope[:, inside])[..., None]


def match_mel(match: MelMatch, audio: tf.Tensor, mel: tf.Tensor) -> tf.Tensor:
    """Return audio (B, samples, 1) with the bands scaled to their levels in a mel (B, T, num_mels)."""
    config, istft = match.config, match.istft
    last, (before, after) = tf.shape(audio)[1] - 1, config.stft_padding
    places = tf.range(-before, last + 1 + after) % (2 * last)  # reflected, as in `reflect`
    padded = tf.gather(audio[..., 0], tf.where(places > last, 2 * last - places, places), axis=1)
    frames = tf.signal.frame(padded, istft.n_fft, istft.hop_size) * tf.constant(istft.window.numpy())
    spectrum = tf.signal.rfft(frames)  # (B, T, n_fft / 2 + 1)
    magnitude = tf.sqrt(tf.square(tf.math.real(spectrum)) + tf.square(tf.math.imag(spectrum)) + 1e-9)
    level = tf.math.log(tf.maximum(magnitude @ tf.constant(match.filters.T.numpy()), config.min_amplitude))
    ratio = tf.clip_by_value(config.to_ln(mel) - level, -MOST_MATCHED, MOST_MATCHED)
    gain = tf.exp(ratio @ tf.constant(match.weights.T.numpy()))
    return inverse_stft(istft, spectrum * tf.cast(gain, tf.complex64))
