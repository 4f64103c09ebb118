"""Training, validation and inference on a GPU in name only; see dev/fake_gpu.py for what it replaces.

Not run here, because it depends on values: the end of `Tacotron2.infer`'s loop, the attention's measures and
plots of a validation. Checkpoints and resuming need values as well; tests/training has them on a CPU.
"""

from itertools import islice
from types import SimpleNamespace
from typing import ClassVar

import pytest
import tacotron2_runs
import torch
from helpers import small_config
from runs import command_line
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torch.utils._python_dispatch import TorchDispatchMode

import save_taco_mels
import tacotron2.train
import train
from corpus.manifest import read_manifest
from dev.fake_gpu import backward, fake_gpu
from generators.build import build_generator
from generators.variants import InverseSTFTHead, MelMatch
from generators.vocos import FourierHead
from mel import MelSpectrogram
from model import WaveformHead
from synthesis.vocoder import use_mixed_precision
from tacotron2.config import Tacotron2Config
from tacotron2.dataset import TextMelDataset
from tacotron2.lstm import LSTMCell
from tacotron2.model import Tacotron2
from tacotron2.stepping import SteppingLSTM
from training.processes import Processes, make_accelerator
from training.run import TrainingRun

# from copying a model for its average
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")

HALF = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
ISTFT = {"upsample_rates": [16, 4], "upsample_kernel_sizes": [32, 8], "gen_istft_n_fft": 16,
         "gen_istft_hop_size": 4, "match_mel": True}  # fmt: skip
MISR = {"fusion": "misr", "resblock_num": 2, "resblock_kernel_size": 3, "resblock_dilation_sizes": "(1,3)"}
VOCOS = {"generator": "vocos", "vocos_dim": 16, "vocos_intermediate_dim": 16, "vocos_num_layers": 1}
RARELY_LOGGED = {"console_out_iters": 9, "wandb_log_iters": 9}
IN_FLOAT32 = (MelSpectrogram, WaveformHead, InverseSTFTHead, MelMatch, FourierHead)


@pytest.fixture
def gpu():
    with fake_gpu() as device:
        yield device


@pytest.fixture
def outputs(gpu):
    """Return the dtypes of the outputs of modules by their class and its bases, as they come."""
    dtypes = {}

    def record(module, _, output):
        for value in output if isinstance(output, tuple) else [output]:
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                for kind in type(module).__mro__:
                    dtypes.setdefault(kind, set()).add(value.dtype)

    handle = register_module_forward_hook(record)
    yield dtypes
    handle.remove()


def trainer_of(module, arguments: list[str]):
    options, config = module.parse_arguments(arguments)
    accelerator = make_accelerator(options)
    assert accelerator.device.type == "cuda"
    kind = module.VocoderTrainer if module is train else module.Tacotron2Trainer
    return kind(accelerator, options, config)


def run_step(gpu, trainer, models: dict[str, nn.Module], batches: list[dict], frames, step: int) -> dict:
    """Run a step that does not log, with its bookkeeping; assert that nothing waits for the GPU."""
    run = TrainingRun(trainer.accelerator, Processes(), trainer.options, trainer.config, models, 100)
    run.progress.step = step
    gpu.waits.clear()
    values = trainer.step(batches, step)
    run.finish_step(values, frames, 0.1)
    assert gpu.waits == []
    for name, value in values.items():
        assert (value.dtype, value.device.type, value.shape) == (torch.float32, "cuda", ()), name
    return values


def assert_state_is_in_float32(model: nn.Module, optimizer) -> None:
    assert optimizer.optimizer.defaults["fused"]
    for name, parameter in model.named_parameters():
        state = optimizer.optimizer.state[parameter]
        for value in (parameter, state["exp_avg"], state["exp_avg_sq"]):
            assert (value.dtype, value.device.type) == (torch.float32, "cuda"), name


@pytest.mark.parametrize(
    ("precision", "settings"),
    [
        ("no", {"ema_decay": 0.9}),
        ("bf16", {"ema_decay": 0.9}),
        ("fp16", {"ema_decay": 0.9}),
        ("no", {"finetune": True, "path_to_saved_mels": "mels", **VOCOS}),
        ("bf16", {"finetune": True, "path_to_saved_mels": "mels", **MISR}),
        ("fp16", {"gradient_accumulation_steps": 2, "discriminators": ["mpd", "mrd"], **ISTFT}),
        ("bf16", {"gradient_accumulation_steps": 2, "discriminators": ["mrd", "mld"], **VOCOS}),
        ("bf16", {"adversarial_start_steps": 9}),
        ("fp16", {"adversarial_start_steps": 9, **VOCOS}),
    ],
)
def test_a_vocoder_is_trained_on_a_gpu_without_waiting(gpu, outputs, tmp_path, precision, settings):
    settings = RARELY_LOGGED | settings
    trainer = trainer_of(
        train, command_line(tmp_path, tmp_path / "run", mixed_precision=precision, **settings)
    )
    batch = {"audio": torch.randn(2, 2048, device="cuda")}
    if trainer.options.finetune:
        batch["mel"] = torch.randn(2, 80, 8, device="cuda")
    batches = [batch] * trainer.options.gradient_accumulation_steps
    values = run_step(gpu, trainer, trainer.models, batches, 16, step=1)

    is_adversarial = not trainer.options.adversarial_start_steps
    assert ("disc_loss" in values) == is_adversarial
    assert_state_is_in_float32(trainer.generator, trainer.gen_optimizer)
    if is_adversarial:
        assert_state_is_in_float32(trainer.discriminators, trainer.disc_optimizer)
    assert (trainer.accelerator.scaler is not None) == (precision == "fp16")
    assert HALF[precision] in outputs[nn.Conv1d]
    assert {dtype for kind in IN_FLOAT32 for dtype in outputs.get(kind, ())} == {torch.float32}
    assert trainer.generate(trainer.real_and_mel(batch)[1]).dtype == torch.float32
    if trainer.average:
        assert {(p.dtype, p.device.type) for p in trainer.average.model.parameters()} == {
            (torch.float32, "cuda")
        }


@pytest.mark.parametrize("precision", HALF)
@pytest.mark.parametrize("settings", [{"ema_decay": 0.9}, VOCOS], ids=["hifigan with an average", "vocos"])
def test_a_vocoder_is_validated_on_a_gpu(gpu, outputs, tmp_path, precision, settings):
    trainer = trainer_of(
        train, command_line(tmp_path, tmp_path / "run", mixed_precision=precision, **settings)
    )
    batch = {"audio": torch.randn(1, 3000, device="cuda"), "name": ["clip"]}
    run = SimpleNamespace(validation_batches=lambda loader: [batch], log_clips=lambda clips: None)
    assert trainer.validate([batch], run) == {"val_mel_loss": gpu.value}
    assert outputs[MelSpectrogram] == {torch.float32}


def tacotron2_batch(frames: int = 9) -> dict:
    return {
        "tokens": torch.ones(2, 7, dtype=torch.long, device="cuda"),
        "token_lengths": torch.ones(2, dtype=torch.long, device="cuda"),
        "mel": torch.randn(2, 80, frames, device="cuda"),
        "mel_lengths": torch.ones(2, dtype=torch.long, device="cuda"),
        "speakers": torch.zeros(2, dtype=torch.long, device="cuda"),
        "name": ["one", "two"],
    }


@pytest.mark.parametrize(
    ("precision", "settings"),
    [
        ("no", {"guided_attention_weight": 5.0}),
        ("bf16", {"gradient_accumulation_steps": 2}),
        ("fp16", {"guided_attention_weight": 5.0, "frames_per_step": 2, "speakers": ["a", "b"],
                  "decoder_input_dropout_p": 0.1}),
    ],
)  # fmt: skip
def test_tacotron2_is_trained_and_validated_on_a_gpu(
    gpu, outputs, tmp_path, monkeypatch, precision, settings
):
    settings = RARELY_LOGGED | settings
    arguments = tacotron2_runs.flags(tmp_path, tmp_path / "run", mixed_precision=precision, **settings)
    trainer = trainer_of(tacotron2.train, arguments)
    losses, given = tacotron2.train.tacotron2_losses, set()
    monkeypatch.setattr(
        tacotron2.train,
        "tacotron2_losses",
        lambda output, *args: given.update(part.dtype for part in output) or losses(output, *args),
    )
    batch = tacotron2_batch()
    frames = batch["mel_lengths"].sum()
    batches = [batch] * trainer.options.gradient_accumulation_steps
    values = run_step(gpu, trainer, {"tacotron2": trainer.model}, batches, frames, step=1)
    assert ("attention_loss" in values) == ("guided_attention_weight" in settings)
    assert_state_is_in_float32(trainer.model, trainer.optimizer)
    assert HALF[precision] in outputs[nn.Conv1d]
    assert outputs[LSTMCell] == given == {torch.float32}

    results = {"measure_attention": {}}
    for method in ("measure_attention", "free_mel_difference", "show"):  # they depend on values
        monkeypatch.setattr(trainer, method, lambda *args, method=method: results.get(method))
    run = SimpleNamespace(validation_batches=lambda loader: [batch])
    dataset = SimpleNamespace(frames=[9, 9], collate=list, __len__=lambda: 2)
    monkeypatch.setattr(tacotron2.train, "validation_loader", lambda *args: None)
    assert trainer.validate(dataset, run)["val_loss"] == gpu.value


GENERATORS = {
    "hifigan": {},
    "resize": {"upsampling": "resize", "upsample_rates": (8, 8, 4), "upsample_kernel_sizes": (7, 7, 7)},
    "misr": MISR | {"resblock_dilation_sizes": (1, 3)},
    "istft": ISTFT | {"upsample_rates": (16, 4), "upsample_kernel_sizes": (32, 8)},
    "vocos": VOCOS,
    "vocos of centered mels": VOCOS | {"padding": "center"},
}


@pytest.mark.parametrize("precision", HALF)
@pytest.mark.parametrize("name", GENERATORS)
def test_a_vocoder_streams_on_a_gpu_without_waiting(gpu, outputs, name, precision):
    generator = build_generator(small_config(**GENERATORS[name])).eval().fold_weight_norm().to("cuda")
    generator = use_mixed_precision(generator, precision, "cuda")
    output_layer = generator.head.out if name.startswith("vocos") else generator.head.conv_post
    exact = set()
    output_layer.register_forward_hook(lambda layer, x, y: exact.add(y.dtype))
    mels = [torch.randn(1, 80, frames, device="cuda") for frames in (20, 1, 60)]
    gpu.waits.clear()
    chunks = list(generator.stream(mels, max_frames=32))
    assert gpu.waits == []
    assert {(chunk.dtype, chunk.device.type) for chunk in chunks} == {(torch.float32, "cuda")}
    assert sum(chunk.shape[2] for chunk in chunks) == generator.config.num_samples(81)
    assert exact == {torch.float32}
    assert HALF[precision] in outputs[nn.Conv1d]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_no_part_of_a_mel_is_in_half_precision(gpu, precision):
    class HalfOperators(TorchDispatchMode):
        found: ClassVar = []

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and result.dtype == HALF[precision]:
                self.found.append(str(func))
            return result

    to_mel, audio = MelSpectrogram(small_config()).to("cuda"), torch.randn(2, 2048, device="cuda")
    with torch.autocast("cuda", HALF[precision]), HalfOperators() as half:
        assert to_mel(audio).dtype == torch.float32
        assert half.found == []
        _ = audio @ audio.T
    assert half.found  # autocast was on


@pytest.mark.parametrize("precision", HALF)
@pytest.mark.parametrize("speakers", [(), ("a", "b")])
def test_tacotron2_speaks_on_a_gpu_with_state_and_mel_in_float32(gpu, monkeypatch, precision, speakers):
    """Its first steps: the loop's end depends on values, so no sentence ends here."""
    cells, call = [], SteppingLSTM.__call__

    def recorded(lstm, x, state):
        hidden, cell = call(lstm, x, state)
        cells.append(cell.dtype)
        return hidden, cell

    monkeypatch.setattr(SteppingLSTM, "__call__", recorded)
    model = tiny_tacotron2(speakers=speakers).eval().to("cuda")
    tokens = torch.ones(2, 7, dtype=torch.long, device="cuda")
    chosen = torch.zeros(2, dtype=torch.long, device="cuda") if speakers else None
    gpu.waits.clear()
    with torch.inference_mode(), torch.autocast("cuda", HALF[precision], enabled=precision != "no"):
        steps = list(islice(model.decoder_steps(tokens, None, 9, 0, 0.5, chosen), 3))
        mel = torch.stack([step.frames for step in steps], dim=2)
        mel = model.complete(mel, torch.ones(2, 3, device="cuda"), chosen)
    assert cells == [torch.float32] * 6
    assert (mel.dtype, mel.device.type) == (torch.float32, "cuda")
    assert len(gpu.waits) == 3 + 1, gpu.waits  # the gate of each step, and the first block of dropout


@pytest.mark.parametrize("precision", HALF)
def test_tacotron2_streams_mels_in_float32_from_a_gpu(gpu, precision):
    model = tiny_tacotron2().eval().to("cuda")
    tokens = torch.ones(1, 7, dtype=torch.long, device="cuda")
    parts = model.stream(tokens, max_frames=99, seed=0, chunk_frames=2)
    with torch.autocast("cuda", HALF[precision], enabled=precision != "no"):
        for part in islice(parts, 2):
            assert (part.dtype, part.device.type, part.shape) == (torch.float32, "cuda", (80, 2))


def tiny_tacotron2(**settings) -> Tacotron2:
    return Tacotron2(Tacotron2Config(**tacotron2_runs.TINY | settings))


def test_mels_are_saved_from_a_gpu(small_corpus):
    clips = list(read_manifest(small_corpus / "train.csv", 22050))  # with values
    with fake_gpu() as gpu:
        model = tiny_tacotron2().eval().to("cuda")
        dataset = TextMelDataset(clips, model.config)
        gpu.waits.clear()
        gpu.value = 3  # frames that are read from each length
        saved = list(save_taco_mels.predict_mels(model, dataset, 4, 0, 1234))
    assert len(saved) == 8
    for _, predicted, true in saved:
        assert predicted.shape == true.shape == (80, 3)
        assert (predicted.dtype, predicted.device.type) == (torch.float32, "cpu")
    to_gpu, to_cpu = 5 + 1, 1  # five inputs and the dropout, and the mel
    assert len(gpu.waits) == 2 * (to_gpu + to_cpu), gpu.waits


def test_tensors_of_two_devices_raise_an_error(gpu, tmp_path, monkeypatch):
    monkeypatch.setattr(MelSpectrogram, "to", lambda module, device: module)
    trainer = trainer_of(train, command_line(tmp_path, tmp_path / "run"))
    with pytest.raises(RuntimeError, match="device"):
        trainer.step([{"audio": torch.randn(2, 2048, device="cuda")}], 1)


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.sum() > 0),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x.copy_(torch.zeros(3)),
        lambda x: torch.zeros(3).to(x.device),
        lambda x: torch.tensor([1.0], device=x.device),
        lambda x: torch.equal(x, x),
    ],
    ids=["item", "bool", "tolist", "cpu", "copy", "to", "tensor", "equal"],
)
def test_calls_that_wait_for_the_gpu_are_recorded(gpu, wait):
    x = torch.zeros(3, device="cuda")
    assert gpu.waits == []
    wait(x)
    assert gpu.waits


@pytest.mark.parametrize("call", [torch.nonzero, lambda x: x[x > 0], torch.unique])
def test_operators_whose_size_depends_on_values_raise_an_error(gpu, call):
    with pytest.raises(RuntimeError, match=r"nonzero|unique"):
        call(torch.zeros(3, device="cuda"))


def test_the_gradients_are_those_of_autograd():
    """`fake_gpu` calls the functions of the graph itself; with values, the gradients can be compared."""
    torch.manual_seed(0)
    model = tiny_tacotron2()
    tokens, lengths = torch.ones(2, 7, dtype=torch.long), torch.tensor([7, 5])

    def loss():
        torch.manual_seed(1)
        output = model(tokens, lengths, torch.randn(2, 80, 9), lengths)
        return sum(part.float().square().mean() for part in output)

    loss().backward()
    expected = [parameter.grad for parameter in model.parameters()]
    model.zero_grad()
    backward(loss())
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
