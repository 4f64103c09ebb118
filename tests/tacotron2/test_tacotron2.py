import math
import pickle
import re
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from common.errors import UserError
from tacotron2.config import Tacotron2Config
from tacotron2.losses import guided_attention
from tacotron2.lstm import LSTMCell
from tacotron2.model import Tacotron2, length_mask
from tacotron2.stepping import PrenetDropout, SteppingLSTM

LENGTHS = torch.tensor([13, 21, 8, 17])
CLOSED = 1.0  # a gate threshold that no probability exceeds


def small_config(**settings) -> Tacotron2Config:
    """Return all parts of Tacotron 2 with 1 % of the paper's parameters."""
    small = {
        "character_embed_dim": 32,
        "encoder_embed_dim": 32,
        "attention_rnn_dim": 64,
        "attention_dim": 16,
        "attention_location_n_filters": 4,
        "attention_location_kernel_size": 7,
        "decoder_rnn_dim": 48,
        "decoder_prenet_dim": 24,
        "decoder_postnet_n_filters": 20,
        "num_mels": 20,
    }
    return Tacotron2Config(**small | settings)


def small_model(seed: int = 0, **settings) -> Tacotron2:
    """Return a model in eval mode whose batch norm statistics are not the initial ones."""
    torch.manual_seed(seed)
    model = Tacotron2(small_config(**settings)).eval()
    for name, buffer in model.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    return model


def some_tokens(config: Tacotron2Config, batch: int, length: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, config.num_symbols, (batch, length), generator=generator)


def some_mel(config: Tacotron2Config, batch: int, frames: int) -> Tensor:
    return torch.randn(batch, config.num_mels, frames, generator=torch.Generator().manual_seed(2))


def gate_logits(model: Tacotron2, tokens: Tensor, lengths: Tensor, steps: int, seeds: list[int]) -> Tensor:
    """Return the gate logits (B, steps) without stopping, with a sign that lets the gate open late."""
    gate, said = model.decoder.gate_layer, []
    gate.weight.mul_(20)  # far enough apart for a threshold in between
    hook = gate.register_forward_hook(lambda _, __, logit: said.append(logit.squeeze(1)))
    frames = steps * model.config.frames_per_step
    model.infer(tokens, lengths, frames, seeds, gate_threshold=CLOSED)
    hook.remove()
    logits = torch.stack(said, dim=1)
    if logits[:, 0].mean() > logits.mean():
        gate.weight.neg_()
        logits = 2 * gate.bias - logits
    return logits


def close(ours: Tensor, theirs: Tensor, atol: float) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=atol)


def torchaudio_twin(model: Tacotron2):
    """Return torchaudio's model with the sizes and weights of `model`, in eval mode."""
    import torchaudio

    config = model.config
    twin = torchaudio.models.Tacotron2(
        n_mels=config.num_mels,
        n_symbol=config.num_symbols,
        n_frames_per_step=config.frames_per_step,
        symbol_embedding_dim=config.character_embed_dim,
        encoder_embedding_dim=config.encoder_embed_dim,
        encoder_n_convolution=config.encoder_n_convolutions,
        encoder_kernel_size=config.encoder_kernel_size,
        decoder_rnn_dim=config.decoder_rnn_dim,
        attention_rnn_dim=config.attention_rnn_dim,
        attention_hidden_dim=config.attention_dim,
        attention_location_n_filter=config.attention_location_n_filters,
        attention_location_kernel_size=config.attention_location_kernel_size,
        prenet_dim=config.decoder_prenet_dim,
        postnet_n_convolution=config.decoder_postnet_num_convs,
        postnet_kernel_size=config.decoder_postnet_kernel_size,
        postnet_embedding_dim=config.decoder_postnet_n_filters,
    )

    def renamed(name: str) -> str:
        name = re.sub(r"(convolutions\.\d+)\.(conv|norm)\.", lambda m: f"{m[1]}.{m[2] == 'norm':d}.", name)
        return re.sub(r"(decoder_rnn\..*)_l0$", r"\1", name)

    twin.load_state_dict({renamed(name): tensor for name, tensor in model.state_dict().items()})
    return twin.eval()


@pytest.fixture
def twins(monkeypatch):
    """Return a function from frames_per_step to our model and torchaudio's, with equal weights."""
    pytest.importorskip("torchaudio", exc_type=(ImportError, OSError))
    # torchaudio's prenet has no option for this
    monkeypatch.setattr(torch.nn.functional, "dropout", lambda x, *_, **__: x)

    def make(frames_per_step: int):
        model = small_model(frames_per_step=frames_per_step, decoder_prenet_dropout_p=0.0, mel_scale="ln")
        return model, torchaudio_twin(model)

    return make


@pytest.mark.parametrize("frames_per_step", [1, 3])
@pytest.mark.parametrize("batch", [1, 3])
@torch.inference_mode()
def test_the_teacher_forced_model_agrees_with_torchaudio(frames_per_step, batch, twins):
    model, twin = twins(frames_per_step)
    tokens, mel = some_tokens(model.config, batch, 21), some_mel(model.config, batch, 60)
    # torchaudio's convolutions read padding, so only sentences of equal length agree
    # with several frames per step, it needs them contiguous in memory
    mel = mel.transpose(1, 2).contiguous().transpose(1, 2)
    given = tokens, torch.full((batch,), 21), mel, torch.full((batch,), 60)
    for ours, theirs in zip(model(*given), twin(*given), strict=True):
        close(ours, theirs, 1e-4)


@pytest.mark.parametrize("frames_per_step", [1, 3])
@pytest.mark.parametrize("batch", [1, 3])
@torch.inference_mode()
def test_the_free_running_model_agrees_with_torchaudio(frames_per_step, batch, twins):
    model, twin = twins(frames_per_step)
    tokens, lengths = some_tokens(model.config, batch, 21), torch.full((batch,), 21)
    twin.decoder.decoder_max_step, twin.decoder.gate_threshold = 60, CLOSED
    with pytest.warns(UserWarning, match="max decoder steps"):
        mel, frames, attention = twin.infer(tokens, lengths)
    speech = model.infer(tokens, lengths, 60 * frames_per_step, gate_threshold=CLOSED)
    assert speech.frames.tolist() == [60 * frames_per_step] * batch
    assert frames.tolist() == [60] * batch  # torchaudio's limit is in steps
    close(speech.mel, mel, 1e-4)
    close(speech.attention, attention, 1e-4)


@torch.inference_mode()
def test_the_gate_ends_a_sentence_at_the_same_step_as_torchaudio(twins):
    model, twin = twins(1)
    tokens, lengths = some_tokens(model.config, 1, 21), torch.tensor([21])
    logits = gate_logits(model, tokens, lengths, 60, [0])[0]
    middle = next(step for step in range(10, 60) if logits[step] > logits[:step].max() + 1e-5)
    threshold = float(torch.sigmoid(logits[: middle + 1].topk(2).values.mean()))
    twin.decoder.gate_layer.load_state_dict(model.decoder.gate_layer.state_dict())
    twin.decoder.gate_threshold = threshold
    mel, frames, attention = twin.infer(tokens, lengths)
    speech = model.infer(tokens, lengths, gate_threshold=threshold)
    assert speech.frames.tolist() == frames.tolist() == [middle + 1]
    assert speech.stopped.tolist() == [True]
    close(speech.mel, mel, 1e-4)
    close(speech.attention, attention, 1e-4)


@pytest.mark.parametrize("frames_per_step", [1, 3])
@torch.inference_mode()
def test_a_teacher_forced_sentence_does_not_depend_on_its_batch(frames_per_step):
    model = small_model(frames_per_step=frames_per_step, decoder_prenet_dropout_p=0.0)
    mel_lengths = torch.tensor([31, 17, 40, 9])  # only the last is a multiple of 3
    tokens, mel = some_tokens(model.config, 4, 21), some_mel(model.config, 4, 40)
    mel = torch.where(length_mask(mel_lengths, 40).unsqueeze(1), mel, 99.0)
    together = model(tokens, LENGTHS, mel, mel_lengths)
    for row, (length, frames) in enumerate(zip(LENGTHS.tolist(), mel_lengths.tolist(), strict=True)):
        one = slice(row, row + 1)
        alone = model(tokens[one, :length], LENGTHS[one], mel[one, :, :frames], mel_lengths[one])
        steps = -(-frames // frames_per_step)
        assert alone.mel.shape[2] == steps * frames_per_step
        assert alone.gate.shape[1] == alone.attention.shape[1] == steps
        close(together.mel[one, :, :frames], alone.mel[:, :, :frames], 1e-5)
        close(together.mel_before[one, :, :frames], alone.mel_before[:, :, :frames], 1e-5)
        close(together.gate[one, :steps], alone.gate, 1e-5)
        close(together.attention[one, :steps, :length], alone.attention, 1e-5)


@pytest.mark.parametrize("frames_per_step", [1, 3])
@torch.inference_mode()
def test_a_generated_sentence_does_not_depend_on_its_batch(frames_per_step):
    model = small_model(frames_per_step=frames_per_step)
    tokens, seeds = some_tokens(model.config, 4, 21), [5, 6, 7, 2**40]
    limits = (
        torch.tensor([70, 50, 80, 31]) * frames_per_step
    )  # longer than a block of dropout masks, and shorter
    together = model.infer(tokens, LENGTHS, limits, seeds, gate_threshold=CLOSED)
    for row, length in enumerate(LENGTHS.tolist()):
        one, frames = slice(row, row + 1), int(limits[row])
        alone = model.infer(tokens[one, :length], None, frames, seeds[row], gate_threshold=CLOSED)
        assert together.frames[row] == alone.frames[0] == frames
        close(together.mel[one, :, :frames], alone.mel, 1e-5)
        close(together.attention[one, : frames // frames_per_step, :length], alone.attention, 1e-5)


@torch.inference_mode()
def test_padding_is_not_encoded_attended_or_generated():
    model = small_model()
    tokens = some_tokens(model.config, 4, 21)
    in_text = length_mask(LENGTHS, 21)
    others = torch.where(in_text, tokens, some_tokens(model.config, 4, 21, seed=9))
    limits = torch.tensor([20, 10, 30, 15])
    speech = model.infer(tokens, LENGTHS, limits, 3, gate_threshold=CLOSED)
    again = model.infer(others, LENGTHS, limits, 3, gate_threshold=CLOSED)
    assert all(torch.equal(one, other) for one, other in zip(speech, again, strict=True))
    mel, lengths = some_mel(model.config, 4, 30), torch.full((4,), 30)
    for attention in (speech.attention, model(tokens, LENGTHS, mel, lengths).attention):
        assert (attention * ~in_text.unsqueeze(1)).abs().max() == 0
    spoken = length_mask(limits, 30)
    close(speech.attention.sum(2), spoken.float(), 1e-5)
    assert (speech.mel.transpose(1, 2)[~spoken] == model.config.silence).all()


@pytest.mark.parametrize("frames_per_step", [1, 3])
@torch.inference_mode()
def test_each_sentence_stops_at_its_gate_or_the_limit_and_reports_which(frames_per_step):
    model = small_model(frames_per_step=frames_per_step)
    tokens, seeds, steps = some_tokens(model.config, 4, 21), [1, 2, 3, 4], 40
    logits = gate_logits(model, tokens, LENGTHS, steps, seeds)  # varied by the dropout
    peaks = logits.max(1).values.sort().values
    opens = logits > (peaks[0] + peaks[1]) / 2  # three sentences stop, one does not
    expected = [int(row.nonzero()[0]) + 1 if row.any() else steps for row in opens]
    speech = model.infer(
        tokens,
        LENGTHS,
        steps * frames_per_step,
        seeds,
        gate_threshold=float(torch.sigmoid((peaks[0] + peaks[1]) / 2)),
    )
    assert len(set(expected)) > 2, "sentences that all stop together show nothing"
    assert speech.frames.tolist() == [frames_per_step * stop for stop in expected]
    assert speech.stopped.tolist() == opens.any(1).tolist()
    assert sum(speech.stopped.tolist()) == 3
    assert speech.mel.shape[2] == speech.frames.max()


@torch.inference_mode()
def test_limits_apply_to_each_sentence_in_whole_steps():
    model = small_model(frames_per_step=3)
    tokens = some_tokens(model.config, 4, 21)
    limits = torch.tensor([9, 11, 30, 4])
    speech = model.infer(tokens, LENGTHS, limits, 1, gate_threshold=CLOSED)
    assert speech.frames.tolist() == [9, 9, 30, 3]
    assert not speech.stopped.any()
    assert model.infer(tokens, LENGTHS, 12, 1, gate_threshold=CLOSED).frames.tolist() == [12] * 4


@torch.inference_mode()
def test_a_gate_that_opens_at_the_limit_counts_as_the_gate():
    model = small_model()
    tokens = some_tokens(model.config, 2, 21)
    speech = model.infer(tokens, None, torch.tensor([1, 7]), 1, gate_threshold=-1.0)
    assert speech.frames.tolist() == [1, 1]
    assert speech.stopped.all()


@torch.inference_mode()
def test_speech_is_reproducible_with_a_seed_and_differs_with_another():
    model = small_model()
    tokens = some_tokens(model.config, 1, 21)

    def say(seeds):
        return model.infer(tokens, None, 70, seeds, gate_threshold=CLOSED).mel

    assert torch.equal(say(3), say(3))
    assert torch.equal(say(3), say([3]))
    assert not torch.allclose(say(3), say(4), atol=1e-3)
    assert not torch.allclose(say(None), say(None), atol=1e-3)
    torch.manual_seed(8)
    first = say(None)
    torch.manual_seed(8)
    assert torch.equal(first, say(None))


@torch.inference_mode()
def test_with_one_seed_each_sentence_has_the_same_dropout():
    model = small_model()
    tokens = some_tokens(model.config, 1, 21).expand(3, -1)
    mel = model.infer(tokens, None, 70, 3, gate_threshold=CLOSED).mel
    close(mel, mel[:1].expand(3, -1, -1), 1e-5)


@torch.inference_mode()
def test_input_dropout_hides_previous_frames_in_training_only():
    model = small_model(decoder_input_dropout_p=0.999, decoder_prenet_dropout_p=0.0, attention_dropout_p=0.0)
    tokens, mel = some_tokens(model.config, 4, 21), some_mel(model.config, 4, 30)

    def before_postnet(mel: Tensor, training: bool) -> Tensor:
        model.decoder.train(training)
        torch.manual_seed(0)
        return model(tokens, LENGTHS, mel, torch.full((4,), 30)).mel_before

    torch.testing.assert_close(before_postnet(mel, True), before_postnet(-mel, True))
    assert (before_postnet(mel, False) - before_postnet(-mel, False)).abs().max() > 1e-3


@pytest.mark.parametrize("place", ["encoder", "attention", "decoder", "decoder_postnet"])
@torch.inference_mode()
def test_each_dropout_is_active_in_training_only(place):
    names = ("encoder", "attention", "decoder", "decoder_postnet", "decoder_prenet")
    off = {f"{name}_dropout_p": 0.0 for name in names}
    model = small_model(**off | {f"{place}_dropout_p": 0.5})
    given = some_tokens(model.config, 4, 21), LENGTHS, some_mel(model.config, 4, 30), torch.full((4,), 30)
    assert torch.equal(model(*given).mel, model(*given).mel)
    model.train()
    assert (model(*given).mel - model(*given).mel).abs().max() > 1e-3


def test_the_prenets_dropout_is_active_in_eval_mode_with_its_probability():
    model = small_model(decoder_prenet_dropout_p=0.25)
    frames = torch.rand(500, model.config.num_mels)
    prenet = model.decoder.prenet
    assert not torch.equal(prenet(frames), prenet(frames))
    prenet.layers[-1].weight.data.abs_()  # so that the ReLU returns no zeros
    zeros = (prenet(frames) == 0).float().mean()
    assert 0.2 < zeros < 0.35
    given = some_tokens(model.config, 1, 21), torch.tensor([21]), frames[:30].T[None], torch.tensor([30])
    assert not torch.allclose(model(*given).mel, model(*given).mel, atol=1e-4)
    prenet.dropout_p = 0.0
    assert torch.equal(model(*given).mel, model(*given).mel)


def test_a_mask_drops_the_values_of_each_layer_and_scales_the_others_by_the_share_that_is_kept():
    """Like dropout, which with p = 0.25 multiplies by 4/3."""
    prenet = small_model(decoder_prenet_dropout_p=0.25).decoder.prenet
    first, second = prenet.layers
    frames, keep = torch.rand(3, 20), torch.rand(3, 2, 24) < 0.75
    hidden = torch.relu(first(frames)) * keep[:, 0] * 4 / 3
    torch.testing.assert_close(prenet(frames, keep.float()), torch.relu(second(hidden)) * keep[:, 1] * 4 / 3)


def test_the_masks_of_a_sentence_keep_their_share_and_are_new_at_every_step():
    config = small_config(decoder_prenet_dropout_p=0.1)
    masks = PrenetDropout(config, [3], torch.device("cpu")).keep_all(200)[0]  # three blocks and a part
    assert masks.mean() == pytest.approx(0.9, abs=0.01)
    assert len(masks.flatten(1).unique(dim=0)) == 200


@pytest.mark.parametrize("batch", [1, 2, 9])
@pytest.mark.parametrize("kind", ["cell", "layer"])
@torch.inference_mode()
def test_the_packed_step_equals_the_lstm_cells(batch, kind):
    torch.manual_seed(0)
    layer = torch.nn.LSTMCell(37, 64) if kind == "cell" else torch.nn.LSTM(37, 64, batch_first=True)
    step = SteppingLSTM(layer)
    state = torch.randn(batch, 64), torch.randn(batch, 64)
    for _ in range(3):
        x = torch.randn(batch, 37)
        if kind == "cell":
            expected = layer(x, state)
        else:
            _, expected = layer(x.unsqueeze(1), tuple(part.unsqueeze(0) for part in state))
        state = step(x, state)
        for ours, theirs in zip(state, expected, strict=True):
            close(ours, theirs.view_as(ours), 1e-5)


@torch.inference_mode()
def test_speech_is_the_same_without_packed_weights(monkeypatch):
    model = small_model()
    given = some_tokens(model.config, 4, 21), LENGTHS, torch.tensor([30, 20, 40, 10]), [1, 2, 3, 4], CLOSED
    packed = model.infer(*given)
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    assert not SteppingLSTM(model.decoder.decoder_rnn).is_packed
    plain = model.infer(*given)
    for one, other in zip(packed, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_speech_works_under_autocast():
    model = small_model()
    given = some_tokens(model.config, 2, 21), None, 20, 1, CLOSED
    with torch.autocast("cpu", torch.bfloat16):
        speech = model.infer(*given)
    close(speech.mel.float(), model.infer(*given).mel, 0.2)


@torch.inference_mode()
def test_changed_weights_change_the_speech():
    model = small_model()
    tokens = some_tokens(model.config, 1, 21)
    before = model.infer(tokens, None, 20, 1, gate_threshold=CLOSED).mel
    model.decoder.decoder_rnn.weight_hh_l0.mul_(2)
    assert not torch.allclose(before, model.infer(tokens, None, 20, 1, gate_threshold=CLOSED).mel, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@torch.inference_mode()
def test_speech_is_the_same_on_gpu_and_cpu():
    model = small_model()
    given = some_tokens(model.config, 4, 21), LENGTHS, torch.tensor([30, 20, 40, 10])
    there = [tensor.cuda() for tensor in given]
    here = model.infer(*given, [1, 2, 3, 4], gate_threshold=CLOSED)
    speech = model.cuda().infer(*there, [1, 2, 3, 4], gate_threshold=CLOSED)
    assert all(tensor.is_cuda for tensor in speech)
    close(speech.mel.cpu(), here.mel, 1e-2)
    assert torch.equal(speech.frames.cpu(), here.frames)


@torch.inference_mode()
def test_a_single_speaker_model_equals_the_shared_model_for_that_speaker():
    model = small_model(speakers=("ann", "bob"), decoder_prenet_dropout_p=0.0)
    model.speaker_embedding.weight.mul_(10)
    tokens, limits = some_tokens(model.config, 4, 21), torch.tensor([20, 10, 30, 15])
    mel, mel_lengths = some_mel(model.config, 4, 40), torch.tensor([31, 17, 40, 9])
    outputs = {}
    for index, name in enumerate(model.config.speakers):
        speakers = torch.full((4,), index)
        single = model.for_speaker(name)
        assert single.state_dict().keys() == small_model().state_dict().keys()
        assert single.config == replace(model.config, speakers=())
        spoken = model.infer(tokens, LENGTHS, limits, gate_threshold=CLOSED, speakers=speakers)
        for ours, theirs in zip(spoken, single.infer(tokens, LENGTHS, limits, None, CLOSED), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
        forced = model(tokens, LENGTHS, mel, mel_lengths, speakers)
        for ours, theirs in zip(forced, single(tokens, LENGTHS, mel, mel_lengths), strict=True):
            close(ours, theirs, 1e-5)
        outputs[name] = spoken.mel
    assert not torch.allclose(outputs["ann"], outputs["bob"], atol=1e-2)
    mixed = model.infer(
        tokens, LENGTHS, limits, gate_threshold=CLOSED, speakers=torch.tensor([0, 1, 1, 0])
    ).mel
    close(mixed[[0, 3]], outputs["ann"][[0, 3]], 1e-5)
    close(mixed[[1, 2]], outputs["bob"][[1, 2]], 1e-5)


def test_an_unknown_speaker_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match="no speaker 'eve'; its speakers: ann, bob"):
        small_model(speakers=("ann", "bob")).for_speaker("eve")
    with pytest.raises(UserError, match="a single voice"):
        small_model().for_speaker("ann")
    model = small_model(speakers=("ann", "bob"))
    with pytest.raises(ValueError, match="ann"):
        model.infer(some_tokens(model.config, 4, 21), LENGTHS)


@torch.inference_mode()
def test_a_model_with_an_inner_scale_reads_and_returns_its_mel_scale():
    natural = small_model(mel_scale="ln", decoder_prenet_dropout_p=0.0)
    config = replace(natural.config, mel_scale="db", inner_mel_scale="ln")
    model = Tacotron2(config).eval()
    model.load_state_dict(natural.state_dict())
    tokens, mel_lengths = some_tokens(config, 4, 21), torch.tensor([31, 17, 40, 9])
    mel = some_mel(config, 4, 40)
    inner = natural(tokens, LENGTHS, mel, mel_lengths)
    outer = model(tokens, LENGTHS, config.from_ln(mel), mel_lengths)
    close(outer.mel_before, config.from_ln(inner.mel_before), 1e-4)
    close(outer.mel, config.from_ln(inner.mel), 1e-4)
    close(outer.gate, inner.gate, 1e-4)
    limits = torch.tensor([20, 10, 30, 15])
    spoken = model.infer(tokens, LENGTHS, limits, gate_threshold=CLOSED).mel
    close(spoken, config.from_ln(natural.infer(tokens, LENGTHS, limits, gate_threshold=CLOSED).mel), 1e-4)


@pytest.mark.parametrize("frames_per_step", [1, 3])
def test_every_weight_has_a_gradient(frames_per_step):
    model = small_model(frames_per_step=frames_per_step).train()
    tokens, mel = some_tokens(model.config, 4, 21), some_mel(model.config, 4, 40)
    given = model(tokens, LENGTHS, mel, torch.tensor([31, 17, 40, 9]))
    sum(part.square().mean() for part in given).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        # batch norm removes the bias before it
        assert ".conv.bias" in name or parameter.grad.abs().sum() > 1e-8, name


def test_the_default_sizes_have_the_papers_28_million_parameters():
    model = Tacotron2(Tacotron2Config())
    assert sum(weight.numel() for weight in model.parameters()) / 1e6 == pytest.approx(28.1, abs=0.1)


def attention_of(*places: int, length: int) -> Tensor:
    """Return attention (1, steps, length) that is at one position per step."""
    return torch.nn.functional.one_hot(torch.tensor([places]), length).float()


def test_guided_attention_follows_the_papers_formula():
    two = torch.tensor([2])
    assert guided_attention(attention_of(0, 1, length=2), two, two, 0.4) == 0
    # half the text off the diagonal: d = 0.5
    cost = 1 - math.exp(-(0.5**2) / (2 * 0.4**2))
    wrong = guided_attention(attention_of(1, 0, length=2), two, two, 0.4)
    assert float(wrong) == pytest.approx(cost, abs=1e-6)
    assert float(guided_attention(torch.full((1, 2, 2), 0.5), two, two, 0.4)) == pytest.approx(
        cost / 2, abs=1e-6
    )
    # a quarter: 4 steps on 2 characters, the second of which is read half a character too early
    early = guided_attention(attention_of(0, 1, 1, 1, length=2), two, torch.tensor([4]), 0.4)
    assert float(early) == pytest.approx(2 * (1 - math.exp(-(0.25**2) / (2 * 0.4**2))) / 4, abs=1e-6)


def test_guided_attention_ignores_padding():
    attention = torch.zeros(2, 4, 6)
    attention[0, range(4), range(4)] = 1  # 4 steps, 4 characters, on the diagonal
    attention[1, range(2), [1, 0]] = 1  # 2 steps, 2 characters, read backwards
    attention[1, [2, 3], [2, 5]] = 1  # attention in the padding: on the diagonal, and far from it
    lengths = torch.tensor([4, 2])
    cost = 1 - math.exp(-(0.5**2) / (2 * 0.4**2))
    assert float(guided_attention(attention, lengths, lengths, 0.4)) == pytest.approx(2 * cost / 6, abs=1e-6)


def test_guided_attention_is_between_0_and_1():
    attention = torch.softmax(3 * torch.randn(8, 30, 20, generator=torch.Generator().manual_seed(0)), 2)
    lengths, steps = torch.full((8,), 20), torch.full((8,), 30)
    for width in (0.05, 0.4, 5.0):
        assert 0 < guided_attention(attention, lengths, steps, width) < 1


def test_a_configuration_is_restored_from_its_dictionary():
    for config in (Tacotron2Config(), small_config(frames_per_step=3, inner_mel_scale="ln", fmax=None)):
        assert Tacotron2Config.from_dict(config.to_dict()) == config
        assert Tacotron2Config.from_dict(config.to_dict() | {"of_another_program": 1}) == config


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"encoder_kernel_size": 4}, ["encoder_kernel_size", "4", "odd"]),
        ({"attention_location_kernel_size": 30}, ["attention_location_kernel_size", "30", "odd"]),
        ({"decoder_postnet_kernel_size": 0}, ["decoder_postnet_kernel_size", "0", "odd"]),
        ({"decoder_prenet_dropout_p": 1.0}, ["decoder_prenet_dropout_p", "1.0", "less than 1"]),
        ({"encoder_dropout_p": -0.1}, ["encoder_dropout_p", "-0.1"]),
        ({"decoder_rnn_dim": 0}, ["decoder_rnn_dim", "0", "at least 1"]),
        ({"frames_per_step": 0}, ["frames_per_step", "0", "at least 1"]),
        ({"decoder_prenet_depth": 0}, ["decoder_prenet_depth", "at least 1"]),
        ({"num_symbols": -1}, ["num_symbols", "-1"]),
        ({"encoder_n_convolutions": 0}, ["encoder_n_convolutions", "at least 1"]),
        ({"encoder_embed_dim": 255}, ["encoder_embed_dim", "255", "even"]),
        ({"hop_size": 2048}, ["hop_size 2048"]),
        ({"mel_scale": "bel"}, ["mel_scale", "'bel'"]),
        ({"decoder_rnn_dim": "1024"}, ["wrong type"]),
    ],
)
def test_an_impossible_configuration_is_refused(settings, words):
    with pytest.raises(UserError) as error:
        Tacotron2Config.from_dict(settings)
    assert all(word in str(error.value) for word in words), error.value


def test_an_unknown_inner_scale_is_refused():
    with pytest.raises(UserError, match="'bel'"):
        Tacotron2(small_config(inner_mel_scale="bel"))


@pytest.mark.parametrize("is_stepping", [False, True], ids=["training", "inference"])
def test_the_state_of_the_attention_lstm_is_float32_under_autocast(is_stepping, monkeypatch):
    """In bfloat16, a state near 100 does not change by less than 0.25."""
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)  # no packed weights, as on a GPU
    cell = LSTMCell(4, 8)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.zero_()
        cell.bias_ih[8:16] = 20.0  # the forget gate is open
        cell.bias_ih[16:24] = 0.1
    x, state = torch.zeros(1, 4), (torch.zeros(1, 8), torch.full((1, 8), 100.0))
    expected, step = state, SteppingLSTM(cell) if is_stepping else cell
    for _ in range(20):
        expected = cell(x, expected)
        with torch.autocast("cpu", torch.bfloat16):
            state = step(x, state)
    assert state[1].dtype == torch.float32
    assert expected[1].min() > 100.9
    torch.testing.assert_close(state, expected, rtol=1e-4, atol=0)


def test_a_model_with_packed_weights_can_be_pickled():
    model = small_model().eval().with_packed_decoder(torch.float32)
    tokens, lengths, frames = torch.tensor([[3, 4, 5, 6]]), torch.tensor([4]), torch.tensor([12])
    again = pickle.loads(pickle.dumps(model))
    assert torch.equal(
        again.infer(tokens, lengths, frames, 1).mel, model.infer(tokens, lengths, frames, 1).mel
    )


def test_a_pytorch_without_onednn_speaks(monkeypatch):
    model = small_model().eval()
    tokens, lengths = torch.tensor([[3, 4, 5, 6]]), torch.tensor([4])
    wanted = model.infer(tokens, lengths, torch.tensor([12]), 1).mel
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(torch.ops, "mkldnn", None)  # as in the wheels for Apple's processors
    spoken = (
        small_model().eval().with_packed_decoder(torch.bfloat16).infer(tokens, lengths, torch.tensor([12]), 1)
    )
    torch.testing.assert_close(spoken.mel, wanted, rtol=1e-4, atol=1e-4)
