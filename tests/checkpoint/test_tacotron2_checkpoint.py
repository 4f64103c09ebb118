"""Tacotron 2 on disk: our format, and NVIDIA's and torchaudio's files compared with torchaudio's model."""

import importlib.util
import json
import math
import re
from pathlib import Path

import pytest
import torch
from helpers import small_generator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from checkpoint import load_pretrained_tacotron2, load_tacotron2, read_tacotron2_config, save_model
from checkpoint.convert import ConvertOptions, convert
from common.errors import UserError
from mel import MelConfig
from tacotron2.config import Tacotron2Config
from tacotron2.model import Tacotron2
from text import SYMBOLS, encode

# torchaudio's model warns if the limit is reached
pytestmark = pytest.mark.filterwarnings("ignore:Reached max decoder steps")

TEXT = 'It\'s (really) one-two; three: four, five! "Six?" zzz.'
NVIDIA_SYMBOLS = list("_-!'(),.:;? ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") + ["@AA"] * 84
TORCHAUDIO_SYMBOLS = list("_-!'(),.:;? abcdefghijklmnopqrstuvwxyz")

# All sizes differ, so that a confusion of two is detected. Torchaudio's model requires an embedding as wide
# as the encoder, and two prenet layers.
THEIR_SIZES = {
    "n_mels": 10, "symbol_embedding_dim": 12, "encoder_embedding_dim": 12, "encoder_n_convolution": 2,
    "encoder_kernel_size": 3, "decoder_rnn_dim": 14, "attention_rnn_dim": 18, "attention_hidden_dim": 20,
    "attention_location_n_filter": 6, "attention_location_kernel_size": 7, "prenet_dim": 16,
    "postnet_n_convolution": 4, "postnet_kernel_size": 9, "postnet_embedding_dim": 22,
}  # fmt: skip
OUR_SIZES = {
    "num_mels": 10, "character_embed_dim": 12, "encoder_embed_dim": 12, "encoder_n_convolutions": 2,
    "encoder_kernel_size": 3, "decoder_rnn_dim": 14, "attention_rnn_dim": 18, "attention_dim": 20,
    "attention_location_n_filters": 6, "attention_location_kernel_size": 7, "decoder_prenet_dim": 16,
    "decoder_prenet_depth": 2, "decoder_postnet_num_convs": 4, "decoder_postnet_kernel_size": 9,
    "decoder_postnet_n_filters": 22, "frames_per_step": 1,
}  # fmt: skip


def torchaudio_model(**settings) -> nn.Module:
    """Return torchaudio.models.Tacotron2, loaded from its file: importing torchaudio needs a CUDA build."""
    found = importlib.util.find_spec("torchaudio")
    if found is None:
        pytest.skip("needs torchaudio")
    file = Path(found.origin).parent / "models" / "tacotron2.py"
    spec = importlib.util.spec_from_file_location("torchaudio_tacotron2", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Tacotron2(**settings)


def their_model(num_symbols: int = 38, **settings) -> nn.Module:
    """Return torchaudio's model with batch norm statistics that are not the initial ones."""
    torch.manual_seed(0)
    model = torchaudio_model(n_symbol=num_symbols, **THEIR_SIZES | settings).eval()
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.3)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    with torch.no_grad():
        for parameter in model.parameters():  # larger than initial weights, whose attention is almost uniform
            parameter *= 1.5
    return model


def nvidia_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename tensors as in NVIDIA's code, which wraps linear layers and convolutions."""
    renamed = {}
    for key, tensor in state.items():
        layer, _, leaf = key.rpartition(".")
        if re.search(r"convolutions\.\d+\.0$|location_conv$", layer):
            layer += ".conv"
        elif layer.startswith("decoder.") and not layer.endswith("_rnn") and "conv" not in layer:
            layer += ".linear_layer"
        renamed[f"{layer}.{leaf}"] = tensor
    return renamed


def save_nvidia(path: Path, model: nn.Module, prefix: str = "", **others) -> Path:
    state = {prefix + key: tensor for key, tensor in nvidia_names(model.state_dict()).items()}
    torch.save({"state_dict": state, "iteration": 6000, "learning_rate": 0.001} | others, path)
    return path


def save_torchaudio(path: Path, model: nn.Module) -> Path:
    torch.save(model.state_dict(), path)
    return path


def our_tokens(text: str = TEXT) -> Tensor:
    return torch.tensor([encode(text)[:-1]])


def their_tokens(symbols: list[str], text: str = TEXT) -> Tensor:
    """Return tokens of the foreign vocabulary, which has no quotation marks; apostrophes replace them."""
    return torch.tensor([[symbols.index(character) for character in text.lower().replace('"', "'")]])


def without_dropout(model: Tacotron2) -> Tacotron2:
    model.decoder.prenet.dropout_p = 0.0
    return model


@torch.no_grad()
def assert_says_the_same(ours: Tacotron2, theirs: nn.Module, symbols: list[str], monkeypatch) -> None:
    """Compare the models teacher-forced and free-running, on natural-log mels."""
    without_dropout(ours)
    monkeypatch.setattr(torch.nn.functional, "dropout", lambda x, *args, **kwargs: x)
    tokens, config = their_tokens(symbols), ours.config
    lengths = torch.tensor([tokens.shape[1]])
    mel = torch.randn(1, config.num_mels, 40, generator=torch.Generator().manual_seed(1)) * 2 - 5
    frames = torch.tensor([40])
    before, after, gate, attention = theirs(tokens, lengths, mel, frames)
    output = ours(our_tokens(), lengths, config.from_ln(mel), frames)
    for mine, other in (
        (config.to_ln(output.mel_before), before), (config.to_ln(output.mel), after), (output.gate, gate),
        (output.attention, attention),
    ):  # fmt: skip
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-4)
    assert output.attention.std(1).max() > 1e-3  # the attention changes between steps

    theirs.decoder.gate_threshold, theirs.decoder.decoder_max_step = 2.0, 30  # up to the limit
    spoken, _, attention = theirs.infer(tokens)
    speech = ours.infer(our_tokens(), max_frames=30, gate_threshold=2.0)
    torch.testing.assert_close(config.to_ln(speech.mel), spoken, rtol=0, atol=1e-4)
    torch.testing.assert_close(speech.attention, attention, rtol=0, atol=1e-4)


def test_a_torchaudio_file_agrees_with_torchaudios_model(tmp_path, monkeypatch):
    theirs = their_model(38)
    path = save_torchaudio(tmp_path / "tacotron2_english_characters_1500_epochs_ljspeech.pth", theirs)
    assert_says_the_same(load_tacotron2(path), theirs, TORCHAUDIO_SYMBOLS, monkeypatch)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_an_nvidia_file_agrees_with_the_model_of_the_same_weights(tmp_path, monkeypatch, prefix):
    theirs = their_model(148)
    path = save_nvidia(tmp_path / "tacotron2_statedict.pt", theirs, prefix)
    assert_says_the_same(load_tacotron2(path), theirs, NVIDIA_SYMBOLS, monkeypatch)


def test_a_checkpoint_of_deeplearningexamples_is_read(tmp_path, monkeypatch):
    """The same nesting identifies NVIDIA's vocoder files."""
    theirs = their_model(148)
    others = {"epoch": 1500, "config": {"n_symbols": 148}, "random_rng_states_all": torch.get_rng_state()}
    path = save_nvidia(tmp_path / "checkpoint_Tacotron2_1500.pt", theirs, "module.", **others)
    assert_says_the_same(load_tacotron2(path), theirs, NVIDIA_SYMBOLS, monkeypatch)


def test_the_file_name_and_neighboring_files_do_not_matter(tmp_path):
    save_model(tmp_path / "model", small_generator().config, generator=small_generator())
    path = save_torchaudio(tmp_path / "model" / "g_00000001", their_model())
    assert isinstance(load_tacotron2(path), Tacotron2)


def test_sizes_are_derived_from_the_tensors(tmp_path):
    config = read_tacotron2_config(save_torchaudio(tmp_path / "file.pth", their_model()))
    assert {name: getattr(config, name) for name in OUR_SIZES} == OUR_SIZES


@pytest.mark.parametrize("save, num_symbols", [(save_torchaudio, 38), (save_nvidia, 148)])
def test_the_published_sizes_equal_the_papers(tmp_path, save, num_symbols):
    """With tensors that have shapes but use almost no memory."""
    model = torchaudio_model(n_symbol=num_symbols)
    empty = {key: torch.zeros(()).expand(tensor.shape) for key, tensor in model.state_dict().items()}
    model.state_dict = lambda: empty
    config = read_tacotron2_config(save(tmp_path / "file", model))
    assert config == Tacotron2Config(inner_mel_scale="ln", end_symbol=False)


def test_vocabulary_and_scale_are_converted_to_ours(tmp_path):
    model = load_tacotron2(save_torchaudio(tmp_path / "file.pth", their_model()))
    config = model.config
    assert (config.num_symbols, config.end_symbol) == (len(SYMBOLS), False)
    assert (config.mel_scale, config.inner_mel_scale) == ("db", "ln")
    assert (config.sampling_rate, config.hop_size, config.fmin, config.fmax) == (22050, 256, 0.0, 8000.0)
    rows = {symbol: model.embedding.weight[index] for index, symbol in enumerate(SYMBOLS)}
    for symbol, stand_in in (('"', "'"), ("<unknown>", " "), ("<end>", "<pad>")):
        assert torch.equal(rows[symbol], rows[stand_in])
    assert len({tuple(row.tolist()) for row in rows.values()}) == 38  # nothing else is equal


def test_nvidias_lower_case_embeddings_are_used(tmp_path):
    theirs = their_model(148)
    model = load_tacotron2(save_nvidia(tmp_path / "file.pt", theirs))
    for letter in "az":
        row = theirs.embedding.weight[NVIDIA_SYMBOLS.index(letter)]
        assert torch.equal(model.embedding.weight[SYMBOLS.index(letter)], row)


def test_torchaudios_wavernn_model_has_other_mel_settings(tmp_path):
    path = save_torchaudio(
        tmp_path / "tacotron2_english_characters_1500_epochs_wavernn_ljspeech.pth", their_model()
    )
    config = read_tacotron2_config(path)
    assert (config.n_fft, config.window_size, config.hop_size) == (2048, 1100, 275)
    assert (config.fmin, config.fmax) == (40.0, 11025.0)


def test_batch_norm_without_a_batch_counter_is_accepted(tmp_path):
    """PyTorch before 0.4.1 had no counter."""
    theirs = their_model()
    state = {key: tensor for key, tensor in theirs.state_dict().items() if "num_batches" not in key}
    torch.save(state, tmp_path / "file.pth")
    load_tacotron2(tmp_path / "file.pth")


def test_a_foreign_model_saved_in_our_format_is_unchanged(tmp_path):
    model = load_tacotron2(save_torchaudio(tmp_path / "file.pth", their_model()))
    save_model(tmp_path / "ours", model.config, tacotron2=model)
    again = load_tacotron2(tmp_path / "ours")
    assert again.config == model.config
    assert torch.equal(*[one.infer(our_tokens(), None, 20, 7).mel for one in (model, again)])


TUTORIAL_SYMBOLS = ["<PAD>", "<EOS>", "<UNK>"]
TUTORIAL_SYMBOLS += list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!'\"(),-.:;? ")
TUTORIAL_NAMES = {  # ours to the tutorial's, where they differ, in its order
    r"embedding": "encoder.embeddings",
    r"(encoder.convolutions.\d+).conv": r"\1.0.conv",
    r"(encoder.convolutions.\d+).norm": r"\1.1",
    r"(decoder.prenet.layers.\d+)": r"\1.0.linear",
    r"decoder.attention_rnn": "decoder.rnn.0",
    r"decoder.decoder_rnn": "decoder.rnn.1",
    r"decoder.attention_layer.query_layer": "decoder.attention.in_proj.linear",
    r"decoder.attention_layer.memory_layer": "decoder.attention.enc_proj.linear",
    r"decoder.attention_layer.location_layer.location_(conv)": r"decoder.attention.what_have_i_said.\1.\1",
    r"decoder.attention_layer.location_layer.\w+_dense": "decoder.attention.what_have_i_said.proj.linear",
    r"decoder.attention_layer.v": "decoder.attention.energy_proj.linear",
    r"decoder.linear_projection": "decoder.mel_proj.linear",
    r"decoder.gate_layer": "decoder.stop_proj.linear",
    r"postnet.convolutions.(\d+).conv": r"decoder.postnet.convs.\1.0.conv",
    r"postnet.convolutions.(\d+).norm": r"decoder.postnet.convs.\1.1",
}


def tutorial_state(model: Tacotron2) -> dict[str, Tensor]:
    """Return the weights under the tutorial's names, with its vocabulary; upper case letters are zeros."""
    renamed = {}
    for key, tensor in model.state_dict().items():
        layer, _, leaf = key.rpartition(".")
        for ours, theirs in TUTORIAL_NAMES.items():
            if re.fullmatch(ours, layer):
                layer = re.sub(ours, theirs, layer)
                break
        renamed[f"{layer}.{leaf.removesuffix('_l0') if '.rnn.1' in layer else leaf}"] = tensor
    rows = [SYMBOLS.index(symbol) if symbol in SYMBOLS else -1 for symbol in TUTORIAL_SYMBOLS]
    rows[:3] = 0, 1, 2
    table = torch.cat([model.embedding.weight, torch.zeros(1, model.embedding.weight.shape[1])])
    return renamed | {"encoder.embeddings.weight": table[rows]}


@pytest.mark.parametrize("name", ["tacotron2.pth", "model.safetensors"])
def test_the_tutorials_state_dict_loads(tmp_path, name):
    torch.manual_seed(3)
    model = Tacotron2(Tacotron2Config(**OUR_SIZES, attention_query_bias=True)).eval()
    state = tutorial_state(model)
    assert len(state["encoder.embeddings.weight"]) == 67
    assert "decoder.attention.in_proj.linear.bias" in state
    (save_file if name.endswith("safetensors") else torch.save)(state, tmp_path / name)
    loaded = load_tacotron2(tmp_path / name)
    assert loaded.config == model.config  # its mels are ours, and its texts have an end symbol
    found = loaded.state_dict()
    assert found.keys() == model.state_dict().keys()
    for key, tensor in model.state_dict().items():
        assert torch.equal(found[key], tensor), key


def test_training_continues_from_the_tutorials_state_dict(tmp_path):
    model = Tacotron2(Tacotron2Config(**OUR_SIZES, attention_query_bias=True))
    torch.save(tutorial_state(model), tmp_path / "tacotron2.pth")
    started = Tacotron2(read_tacotron2_config(tmp_path / "tacotron2.pth"))
    load_pretrained_tacotron2(tmp_path / "tacotron2.pth", started)
    bias = started.decoder.attention_layer.query_layer.bias
    assert torch.equal(bias, model.decoder.attention_layer.query_layer.bias)


def small_tacotron2(**settings) -> Tacotron2:
    torch.manual_seed(1)
    return Tacotron2(Tacotron2Config(**OUR_SIZES | settings)).eval()


@pytest.fixture
def own_folder(tmp_path) -> Path:
    model = small_tacotron2()
    save_model(tmp_path / "own", model.config, tacotron2=model)
    return tmp_path / "own"


@pytest.mark.parametrize("file", ["", "config.json", "tacotron2.safetensors"])
def test_our_own_model_is_loaded_by_its_folder_or_a_file_in_it(own_folder, file):
    model = load_tacotron2(own_folder / file)
    assert model.config == read_tacotron2_config(own_folder / file) == small_tacotron2().config
    assert not model.training and not any(parameter.requires_grad for parameter in model.parameters())
    for one, other in zip(model.state_dict().values(), small_tacotron2().state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_half_precision_weights_are_loaded_as_float32(own_folder):
    file = own_folder / "tacotron2.safetensors"
    state = load_file(file)
    save_file(
        {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()},
        file,
    )
    model = load_tacotron2(own_folder)
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == state[name].dtype
        torch.testing.assert_close(tensor, state[name], rtol=1e-3, atol=1e-6)
    assert model.infer(our_tokens(), None, 5, 0).mel.dtype == torch.float32


def test_training_continues_from_either_format(own_folder, tmp_path):
    other = save_torchaudio(tmp_path / "file.pth", their_model())
    for path in (own_folder, other):
        model = Tacotron2(read_tacotron2_config(path))
        assert str(path) in load_pretrained_tacotron2(path, model)
        wanted = load_tacotron2(path).state_dict()
        assert all(torch.equal(tensor, wanted[name]) for name, tensor in model.state_dict().items())
        assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("setting", [{"mel_scale": "ln"}, {"hop_size": 300, "fmax": 7600.0}])
def test_pretrained_weights_with_other_mel_settings_are_refused(own_folder, setting):
    with pytest.raises(UserError) as error:
        load_pretrained_tacotron2(own_folder, small_tacotron2(**setting))
    for name, value in setting.items():
        assert f"{name} is {getattr(MelConfig(), name)} in {own_folder} but {value} in this run" in str(
            error.value
        )


def refused(path: Path, *words: str) -> None:
    for read in (load_tacotron2, read_tacotron2_config):
        with pytest.raises(UserError) as error:
            read(path)
        message = str(error.value)
        assert str(path) in message and "\n" not in message
        assert all(word in message for word in words), message


def test_a_missing_tacotron_2_is_a_user_error(tmp_path):
    refused(tmp_path / "nothing", "there is no", "name a Tacotron 2's folder")
    refused(tmp_path, "holds no tacotron2.safetensors")


def test_a_vocoder_is_refused_as_a_tacotron_2(tmp_path):
    generator = small_generator()
    save_model(tmp_path / "vocoder", generator.config, generator=generator)
    refused(tmp_path / "vocoder", "holds no tacotron2.safetensors")
    refused(
        tmp_path / "vocoder" / "generator.safetensors",
        "is not a Tacotron 2",
        "config.json describes another model",
    )
    torch.save({"generator": generator.state_dict()}, tmp_path / "g_00000001")
    refused(tmp_path / "g_00000001", "is not a Tacotron 2 checkpoint of this project")


def test_weights_without_their_configuration_are_refused(own_folder):
    (own_folder / "config.json").unlink()
    refused(own_folder, "holds no config.json")


@pytest.mark.parametrize("contents", [[1, 2], {"state_dict": 3}, {"state_dict": {"embedding.weight": 4}}, {}])
def test_a_pickle_of_something_else_is_refused(tmp_path, contents):
    torch.save(contents, tmp_path / "file.pt")
    refused(tmp_path / "file.pt", "is not a Tacotron 2")


class Bomb:
    def __reduce__(self):
        return print, ("boom",)


def test_a_pickle_with_code_is_refused_and_not_executed(tmp_path, capsys):
    path = save_nvidia(tmp_path / "file.pt", their_model(148), hparams=Bomb())
    refused(path, "is refused", "could run code")
    assert "boom" not in capsys.readouterr().out


def test_a_truncated_file_is_refused(tmp_path):
    path = save_torchaudio(tmp_path / "file.pth", their_model())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(path)


def test_missing_or_unexpected_tensors_are_refused(tmp_path):
    state = their_model().state_dict()
    torch.save({key: state[key] for key in state if key != "decoder.gate_layer.bias"}, tmp_path / "less.pth")
    torch.save(state | {"speakers.weight": torch.zeros(3, 3)}, tmp_path / "more.pth")
    for name, words in (
        ("less", "decoder.gate_layer.bias is missing"),
        ("more", "speakers.weight is unexpected"),
    ):
        with pytest.raises(UserError, match=words):
            load_tacotron2(tmp_path / f"{name}.pth")
    flat = state | {"decoder.prenet.layers.0.weight": torch.zeros(5)}
    torch.save(flat, tmp_path / "flat.pth")
    refused(tmp_path / "flat.pth", "is not a Tacotron 2")


def test_another_vocabulary_is_refused_with_its_size(tmp_path):
    """Torchaudio's phoneme vocabulary is not supported."""
    path = save_torchaudio(tmp_path / "tacotron2_english_phonemes_1500_epochs_ljspeech.pth", their_model(96))
    refused(path, "96 symbols", "38, 148, 67")


def test_tensor_sizes_that_contradict_the_configuration_are_named(own_folder):
    values = json.loads((own_folder / "config.json").read_text())
    (own_folder / "config.json").write_text(json.dumps(values | {"attention_dim": 6}))
    with pytest.raises(UserError, match=r"location_dense.weight is \(20, 6\) in the file and \(6, 6\)"):
        load_tacotron2(own_folder)


def test_silence_is_converted_between_scales(tmp_path):
    """An amplitude of 0.00001 is -11.5 in their scale and -4 in ours."""
    model = load_tacotron2(save_torchaudio(tmp_path / "file.pth", their_model()))
    silence = model.from_inner(torch.tensor(math.log(1e-5)))
    assert silence == pytest.approx(-4.0, abs=1e-5) == model.config.silence


@pytest.mark.parametrize("form", ["own", "config.json", "torchaudio's"])
def test_convert_writes_any_tacotron_2_in_our_format_in_half_precision(own_folder, tmp_path, form):
    source = {"own": own_folder, "config.json": own_folder / "config.json"}.get(form)
    source = source or save_torchaudio(tmp_path / "theirs.pth", their_model())
    options = {"source": Path(source), "target": tmp_path / "converted", "to": "project"}
    convert(ConvertOptions(**options, half_precision=True))
    halves = load_file(tmp_path / "converted" / "tacotron2.safetensors")
    assert all(tensor.dtype in (torch.float16, torch.int64) for tensor in halves.values())
    before, after = load_tacotron2(source), load_tacotron2(tmp_path / "converted")
    assert after.config == before.config
    for name, tensor in after.state_dict().items():
        torch.testing.assert_close(tensor, before.state_dict()[name], rtol=1e-3, atol=1e-3)
