"""Speed of Tacotron 2's inference compared with torchaudio's: `python benchmarks/tacotron2_infer.py`.

The baseline is `torchaudio.models.Tacotron2.infer` with the same random weights at full size, the same texts
and the prenet's dropout. This project runs in float32, and with the decoder's LSTMs in bf16. Runs of the
three alternate. Prints frames per second and their ratios to the baseline, for the best runs and the medians.
Only frames of unfinished sentences count, since torchaudio continues finished sentences until the last one is
finished.

The last line is the duration of a decoder step at the 10th percentile, which other programs on the same cores
affect least.
"""

import argparse
import re
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
import torchaudio

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tacotron2.config import Tacotron2Config
from tacotron2.model import Tacotron2


def torchaudio_twin(model: Tacotron2) -> torchaudio.models.Tacotron2:
    """Return torchaudio's model with the sizes and weights of `model`, in eval mode."""
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


def infer(model: Tacotron2, packed: tuple, *inputs: torch.Tensor) -> None:
    """Speak a batch with the LSTMs of `Decoder.pack`."""
    model.decoder.packed = packed
    model.infer(*inputs)


def ratios(seconds: dict[str, float]) -> str:
    baseline = seconds["torchaudio"]
    return ", ".join(f"{baseline / value:.2f}" for name, value in seconds.items() if name != "torchaudio")


def timed(speak: Callable[[], object], gate: torch.nn.Module) -> tuple[float, list[float]]:
    """Return the seconds of a call and of each decoder step, between consecutive calls of the gate."""
    times = []
    hook = gate.register_forward_hook(lambda *_: times.append(time.perf_counter()))
    started = time.perf_counter()
    speak()
    elapsed = time.perf_counter() - started
    hook.remove()
    return elapsed, [after - before for before, after in pairwise(times)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[1, 8])
    parser.add_argument(
        "--repeats", type=int, default=5, help="timed runs of each model, after a warm-up run"
    )
    parser.add_argument("--characters", type=int, default=100, help="length of the longest sentence")
    parser.add_argument("--frames", type=int, default=300, help="frames of the longest sentence")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore", "Reached max decoder steps")

    torch.manual_seed(0)
    config = Tacotron2Config(mel_scale="ln")
    model = Tacotron2(config).eval()
    model.decoder.gate_layer.bias.data.fill_(-100.0)  # random weights predict no end, so the limits set it
    twin = torchaudio_twin(model)
    twin.decoder.decoder_max_step = args.frames
    dtypes = {"float32": torch.float32, "bf16": torch.bfloat16}
    lstms = {name: model.decoder.pack(dtype) for name, dtype in dtypes.items()}

    print(
        f"{args.threads} threads, {args.characters} characters and {args.frames} frames or fewer per sentence"
    )
    for batch_size in args.batch_sizes:
        for shortest in (1.0, 0.5) if batch_size > 1 else (1.0,):
            share = torch.linspace(1.0, shortest, batch_size)
            token_lengths = (share * args.characters).round().long()
            limits = (share * args.frames).round().long()
            tokens = torch.randint(3, config.num_symbols, (batch_size, args.characters))
            runs = {"torchaudio": lambda t=tokens, n=token_lengths: twin.infer(t, n)}
            for name, packed in lstms.items():
                runs[name] = partial(infer, model, packed, tokens, token_lengths, limits)
            times: dict[str, list[float]] = {name: [] for name in runs}
            steps: dict[str, list[float]] = {name: [] for name in runs}
            with torch.inference_mode():
                for repeat in range(args.repeats + 1):
                    for name, speak in runs.items():
                        network = twin if name == "torchaudio" else model
                        elapsed, step_times = timed(speak, network.decoder.gate_layer)
                        times[name] += [elapsed] if repeat > 0 else []
                        steps[name] += step_times if repeat > 0 else []
            lengths = "of equal length" if shortest == 1 else f"of {shortest:.0%} to 100% of the length"
            print(f"batch {batch_size}" + (f", sentences {lengths}" if batch_size > 1 else ""))
            for kind, summary in (("best", min), ("median", statistics.median)):
                seconds = {name: summary(values) for name, values in times.items()}
                rates = [f"{name} {limits.sum() / value:.0f}" for name, value in seconds.items()]
                print(f"  {kind:>6}: {', '.join(rates)} frames/s; ratios {ratios(seconds)}")
            fast = {name: statistics.quantiles(values, n=10)[0] for name, values in steps.items()}
            shown = ", ".join(f"{name} {1000 * value:.2f}" for name, value in fast.items())
            print(f"    step: {shown} ms; ratios {ratios(fast)}", flush=True)


if __name__ == "__main__":
    main()
