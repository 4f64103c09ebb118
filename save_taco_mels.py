"""Save the teacher-forced mels of a Tacotron 2, to fine-tune a vocoder on: `python save_taco_mels.py …`.

Teacher-forced, a mel fits its clip's audio frame by frame, and yet has the faults of one that was predicted:
a vocoder that has seen them makes the best of them.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from checkpoint import CONFIG_NAME, load_on_device, load_tacotron2, weights_fingerprint
from dataset import Clip, read_manifest
from tacotron2.dataset import TextMelDataset
from tacotron2.mel import MelConfig, check_same_mel, convert_mel_scale
from tacotron2.model import Tacotron2
from training import add_mel_arguments, mel_settings
from utils import (
    ArgumentParser,
    UserError,
    atomic_write,
    available_cores,
    check_seed,
    read_json,
    report_user_errors,
)


@torch.inference_mode()
def teacher_forced_mels(
    model: Tacotron2, clips: list[Clip], batch_size: int, num_workers: int, seed: int
) -> Iterator[tuple[Clip, Tensor, Tensor]]:
    """(clip, predicted mel, true mel) for each clip, longest first: (num_mels, samples // hop_size) both."""
    device = next(model.parameters()).device
    dataset = TextMelDataset(clips, model.config)
    longest_first = sorted(range(len(clips)), key=lambda index: -clips[index].samples)
    loader = DataLoader(
        Subset(dataset, longest_first), batch_size, num_workers=num_workers, collate_fn=dataset.collate
    )
    order = iter(longest_first)
    torch.manual_seed(seed)  # of the prenet's dropout, which is on here as it is when the model speaks
    for batch in loader:
        inputs = [batch[name].to(device) for name in ("tokens", "token_lengths", "mel", "mel_lengths")]
        predicted = model(*inputs).mel.cpu()
        for row, frames in enumerate(batch["mel_lengths"].tolist()):
            yield clips[next(order)], predicted[row, :, :frames], batch["mel"][row, :, :frames]


def distinct_clips(manifests: list[Path], config: MelConfig, input_wavs_dir: Path | None) -> list[Clip]:
    """The clips of all manifests, each once. Raises UserError where two would be saved under one name."""
    clips: dict[str, Clip] = {}
    for manifest in manifests:
        for clip in read_manifest(manifest, config.sampling_rate, input_wavs_dir):
            other = clips.setdefault(clip.path.stem, clip)
            if other.path.resolve() != clip.path.resolve():
                raise UserError(
                    f"{other.path} and {clip.path} would both be saved as {clip.path.stem}.npy; rename one, "
                    "or save the manifests' mels into two folders"
                )
    return list(clips.values())


def claim_folder(folder: Path, config: MelConfig, weights: str, overwrite: bool) -> None:
    """Record what the mels are made with. Raises UserError for a folder of mels made otherwise.

    With `overwrite` those are deleted, all of them: a later run could not tell them from the new ones.
    """
    record = folder / CONFIG_NAME
    made_with = config.to_dict() | {"tacotron2_sha256": weights}
    found = read_json(record) if record.is_file() else {}
    if overwrite and found != made_with:
        for mel in folder.glob("*.npy"):
            mel.unlink()
    elif found:
        check_same_mel(MelConfig.from_dict(found), config, f"the mels in {folder}", "these")
        if found.get("tacotron2_sha256") != weights:
            raise UserError(
                f"{folder} holds mels of another Tacotron 2; name another folder, or replace them with "
                "--overwrite"
            )
    elif any(folder.glob("*.npy")):
        raise UserError(
            f"{folder} holds .npy files but no {CONFIG_NAME} that says whose; name another folder, or "
            "replace them with --overwrite"
        )
    with atomic_write(record) as temporary:
        temporary.write_text(json.dumps(made_with, indent=2) + "\n")


def save_mels(
    model: Tacotron2,
    clips: list[Clip],
    folder: Path,
    config: MelConfig,
    batch_size: int = 16,
    num_workers: int = 0,
    seed: int = 1234,
    overwrite: bool = False,
) -> tuple[int, float]:
    """Write `<stem>.npy`, float32 (num_mels, samples // hop_size), for each clip that has none.

    The mels are in `config`'s scale. Gives the number of clips that were missing, and the mean absolute
    difference of their mels from the true ones.
    """
    claim_folder(folder, config, weights_fingerprint(model), overwrite)
    missing = [clip for clip in clips if overwrite or not (folder / f"{clip.path.stem}.npy").is_file()]
    difference, bins = 0.0, 0
    mels = teacher_forced_mels(model, missing, batch_size, num_workers, seed) if missing else iter(())
    for clip, predicted, true in tqdm(mels, total=len(missing), unit="clip", disable=None):
        predicted, true = (convert_mel_scale(mel, model.config, config) for mel in (predicted, true))
        difference += (predicted - true).abs().sum().item()
        bins += true.numel()
        with atomic_write(folder / f"{clip.path.stem}.npy") as temporary, temporary.open("wb") as file:
            np.save(file, predicted.numpy().astype(np.float32))
    return len(missing), difference / max(1, bins)


def build_parser() -> ArgumentParser:
    parser = ArgumentParser(prog="save_taco_mels.py", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--path_to_manifest",
        type=Path,
        nargs="+",
        required=True,
        help="the manifests to train and validate on",
    )
    parser.add_argument("--path_to_save", type=Path, required=True, help="folder for <clip>.npy")
    parser.add_argument("--taco_weights", type=Path, required=True, help="the Tacotron 2: a folder or a file")
    parser.add_argument("--input_wavs_dir", type=Path, help="where the clips of official filelists lie")
    parser.add_argument("--batch_size", type=int, default=16, help="clips at a time")
    parser.add_argument(
        "--num_workers", type=int, default=available_cores(), help="processes that read clips"
    )
    parser.add_argument("--seed", type=int, default=1234, help="of the prenet's dropout")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="make the mels anew that are there already, and delete another model's",
    )
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu, cuda, cuda:1, …"
    )
    add_mel_arguments(parser, MelConfig())
    return parser


def parse_arguments(arguments: list[str] | None) -> tuple[argparse.Namespace, Tacotron2, MelConfig]:
    """The flags, the model, and the mel to save: the model's own, in whichever scale the flags ask for."""
    parser = build_parser()
    args = parser.parse_args(arguments)
    if args.batch_size < 1 or args.num_workers < 0:
        raise UserError(
            f"--batch_size is {args.batch_size} and --num_workers {args.num_workers}; they must be at least "
            "1 and 0"
        )
    check_seed(args.seed)
    model = load_on_device(load_tacotron2, args.taco_weights, args.device)
    parser.set_defaults(**mel_settings(model.config))
    args = parser.parse_args(arguments)
    if args.num_workers > available_cores():
        print(f"--num_workers {args.num_workers} is more than the {available_cores()} cores: using these")
        args.num_workers = available_cores()
    config = MelConfig(**mel_settings(args))
    check_same_mel(model.config, config, str(args.taco_weights), "the flags", scale_matters=False)
    return args, model, config


@report_user_errors
def main(arguments: list[str] | None = None) -> None:
    args, model, config = parse_arguments(arguments)
    clips = distinct_clips(args.path_to_manifest, config, args.input_wavs_dir)
    start = time.perf_counter()
    try:
        made, difference = save_mels(
            model,
            clips,
            args.path_to_save,
            config,
            args.batch_size,
            args.num_workers,
            args.seed,
            args.overwrite,
        )
    except OSError as error:
        raise UserError(f"can't write to {args.path_to_save}: {error}; name another folder") from error
    seconds = time.perf_counter() - start
    there = len(clips) - made
    print(f"{made} clips saved in {args.path_to_save}" + (f", {there} were there already" if there else ""))
    if made:
        print(f"mel error (L1, {config.mel_scale}): {difference:.4f}; {seconds:.1f} s")


if __name__ == "__main__":
    main()
