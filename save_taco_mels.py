"""Save teacher-forced mels of a Tacotron 2 for fine-tuning a vocoder: `python save_taco_mels.py …`.

Under `torchrun` or `accelerate launch`, the processes share the clips, and each uses its own GPU.

A teacher-forced mel matches its clip's audio frame by frame and has the errors of a predicted mel. A vocoder
that is trained on such mels learns to compensate for these errors.
"""

import io
import json
import os
import time
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from checkpoint import CONFIG_NAME, load_tacotron2, weights_fingerprint
from common.errors import UserError, report_user_errors
from common.files import atomic_write, read_json, visible
from common.options import Options, device_option, option, seed_option
from common.parser import build_parser, select
from corpus.manifest import Clip, read_manifest
from corpus.saved_mels import NPY_HEADER, distinct_depth, mel_name, shared_names
from mel import MelConfig, check_same_mel, convert_mel_scale
from tacotron2.config import Tacotron2Config
from tacotron2.dataset import TextMelDataset
from tacotron2.model import Tacotron2
from training.loaders import limited_workers
from training.processes import Processes, use_all_cores

WRITERS = 4  # threads; a write waits for the disk
LIST_NAME = "mels.txt"  # the mels that runs have written into the folder: name, tab, checksum
MAX_UNWRITTEN = 64  # mels that wait to be written


@dataclass(frozen=True, kw_only=True)
class SaveMelsOptions(Options):
    """Options of `save_taco_mels.py`."""

    path_to_manifest: tuple[Path, ...] = option(help="Read the clips of these manifests")
    path_to_save: Path = option(help="Write <clip>.npy into this folder")
    taco_weights: Path = option(help="Use this Tacotron 2: a folder or a file")
    speaker: str | None = option(
        None, "Read all clips as this speaker of a Tacotron 2 with several; default: the column speaker of "
        "the manifests",
    )  # fmt: skip
    input_wavs_dir: Path | None = option(
        None, "Read the clips of official filelists (id|text|text) in this folder"
    )
    overwrite: bool = option(False, "Replace mels that exist, and delete those of another model")
    batch_size: int = option(16, "Number of clips per batch", minimum=1)
    seed: int = seed_option(1234, "the prenet's dropout")
    num_workers: int | None = option(
        None, "Number of processes that read clips; default: one per core", minimum=0
    )
    device: str = device_option()


def teacher_forced_mels(
    model: Tacotron2, clips: list[Clip], batch_size: int, num_workers: int, seed: int
) -> Iterator[tuple[Clip, Tensor, Tensor]]:
    """Return an iterator over (clip, predicted mel, true mel), longest clip first.

    Both mels are (num_mels, samples // hop_size). Raises UserError, see `TextMelDataset`, before it returns.
    """
    return predict_mels(model, TextMelDataset(clips, model.config), batch_size, num_workers, seed)


@torch.inference_mode()
def predict_mels(
    model: Tacotron2, dataset: TextMelDataset, batch_size: int, num_workers: int, seed: int
) -> Iterator[tuple[Clip, Tensor, Tensor]]:
    clips, device = dataset.clips, next(model.parameters()).device
    longest_first = sorted(range(len(clips)), key=lambda index: -clips[index].samples)
    loader = DataLoader(
        Subset(dataset, longest_first), batch_size, num_workers=num_workers, collate_fn=dataset.collate
    )
    order = iter(longest_first)
    for batch in loader:
        names = ("tokens", "token_lengths", "mel", "mel_lengths", "speakers")
        # The prenet's dropout is active, as in inference. It is drawn per clip, so that a mel depends neither
        # on the batch nor on the number of processes.
        seeds = [zlib.crc32(f"{seed} {name}".encode()) for name in batch["name"]]
        predicted = model(*(batch[name].to(device) for name in names), seeds=seeds).mel.cpu()
        for row, frames in enumerate(batch["mel_lengths"].tolist()):
            yield clips[next(order)], predicted[row, :, :frames], batch["mel"][row, :, :frames]


def distinct_clips(manifests: Sequence[Path], config: MelConfig, input_wavs_dir: Path | None) -> list[Clip]:
    """Return the clips of all manifests, each once."""
    manifests = [read_manifest(path, config.sampling_rate, input_wavs_dir) for path in manifests]
    return list({os.path.realpath(clip.file): clip for clip in chain(*manifests)}.values())


def checksums(clips: Sequence[Clip], depth: int, config: Tacotron2Config) -> Iterator[tuple[Clip, str, str]]:
    """Yield each clip with its mel's name and a checksum of what the mel is made from, 8 digits."""
    for clip in clips:
        speaker = clip.speaker if config.speakers else ""
        checksum = zlib.crc32(f"{clip.samples} {speaker} {clip.transcript}".encode())
        yield clip, mel_name(clip, depth).replace(os.sep, "/"), f"{checksum:08x}"


def read_list(folder: Path) -> dict[str, str]:
    """Return the names of the mels that earlier runs recorded, with their checksums, or "" where unknown."""
    listed = folder / LIST_NAME
    lines = listed.read_text(encoding="utf-8-sig").splitlines() if listed.is_file() else []
    return {name: checksum for name, _, checksum in (line.partition("\t") for line in lines)}


def is_outdated(name: str, checksum: str, recorded: dict[str, str]) -> bool:
    return recorded.get(name, "") not in ("", checksum)


def mels_in(folder: Path) -> tuple[dict[str, str], set[str]]:
    """Return the recorded mels in a folder, as `read_list` does, and the names of its other .npy files."""
    listed = read_list(folder)
    found = {path.relative_to(folder).as_posix() for path in visible(folder.rglob("*.npy"))}
    return {name: checksum for name, checksum in listed.items() if name in found}, found - listed.keys()


def depth_of_mels(folder: Path, clips: Sequence[Clip]) -> int:
    """Return how many parts of their paths name the clips' mels: more than one if clips share a name.

    A folder that has mels keeps its depth. Raises UserError if that is too small.
    """
    depth, (recorded, _) = distinct_depth(clips), mels_in(folder)
    existing = min(name.count("/") + 1 for name in recorded) if recorded else depth
    if existing < depth:
        raise UserError(
            f"clips share the name {min(shared_names(clips, depth=existing))}, and the mels in {folder} are "
            "not in folders that distinguish them; choose another folder"
        )
    return existing


def refuse_other_clips(folder: Path, clips: Sequence[Clip], depth: int, config: MelConfig) -> None:
    """Raise UserError for an existing mel of another clip with the same name, found by its length."""
    for clip in clips:
        path = folder / mel_name(clip, depth)
        size = NPY_HEADER + 4 * config.num_mels * config.num_frames(clip.samples)
        if path.is_file() and path.stat().st_size != size:
            raise UserError(
                f"{path} is not as long as {clip.path}, so it is the mel of another clip; pass the manifests "
                "of all clips in one command, or replace the mels with --overwrite"
            )


def claim_folder(
    folder: Path, mels: dict[str, str], config: MelConfig, weights: str, seed: int, overwrite: bool
) -> None:
    """Write the mel settings, the model's fingerprint, the seed, and the mels' checksums into the folder.

    `mels` are the checksums by name. Existing mels of another transcript are deleted, because a later run
    could not tell them from the new ones; with `overwrite`, also those of unknown origin for these clips, and
    all that an earlier run wrote with another model or other settings. Other files are left alone. Raises
    UserError for mels of another model or seed without `overwrite`, and for .npy files of unknown origin
    among or beside them.
    """
    record = folder / CONFIG_NAME
    made_with = config.to_dict() | {"tacotron2_sha256": weights, "seed": seed}
    found = read_json(record) if record.is_file() else {}
    seed_of_found = found.get("seed", seed)  # earlier versions recorded none
    recorded, others = mels_in(folder)
    deleted = {name for name in mels if is_outdated(name, mels[name], recorded)}
    if overwrite:
        deleted |= others & mels.keys()
    if overwrite and found | {"seed": seed_of_found} != made_with:
        if found and not recorded and (unknown := others - mels.keys()):  # of a run that listed no names
            raise UserError(
                f"{folder} contains {len(unknown)} .npy files that may be mels of another model, such as "
                f"{min(unknown)}; delete or move them"
            )
        deleted |= recorded.keys()
    elif found:
        check_same_mel(MelConfig.from_dict(found), config, f"the mels in {folder}", "these")
        if found.get("tacotron2_sha256") != weights:
            raise UserError(
                f"{folder} contains mels of another Tacotron 2; choose another folder, or replace them with "
                "--overwrite"
            )
        if "seed" not in found:
            del made_with["seed"]
        if seed_of_found != seed:
            raise UserError(
                f"{folder} contains mels of --seed {seed_of_found}; use it again, choose another folder, or "
                "replace them with --overwrite"
            )
    elif others:
        raise UserError(
            f"{folder} contains .npy files without a {CONFIG_NAME}, such as {min(others)}; choose another "
            "folder, or replace those of these clips with --overwrite"
        )
    kept = dict.fromkeys(others & mels.keys(), "") | recorded
    for name in deleted & kept.keys():
        (folder / name).unlink()
        del kept[name]
    lines = (f"{name}\t{checksum}".rstrip() for name, checksum in sorted((mels | kept).items()))
    for path, text in (
        (folder / LIST_NAME, "\n".join(lines)),
        (record, json.dumps(made_with, indent=2)),
    ):
        with atomic_write(path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")


def save_mels(
    model: Tacotron2,
    clips: list[Clip],
    folder: Path,
    config: MelConfig,
    batch_size: int = 16,
    num_workers: int = 0,
    seed: int = 1234,
    overwrite: bool = False,
    processes: Processes | None = None,
) -> tuple[int, float]:
    """Write `<stem>.npy`, float32 (num_mels, samples // hop_size), for each clip that has none in `folder`.

    A mel that an earlier run made from another transcript is made again.

    If clips in different folders share a name, the mels are in folders, too: `speaker/<stem>.npy`.

    The mels are in `config`'s scale. Returns the number of mels written and the mean absolute difference
    between them and the true mels. With several `processes`, each writes its share of the clips, and all
    return the results of all.
    """
    processes = processes or Processes()
    # shares of similar length, which do not depend on the mels that other processes have written by now
    share = sorted(clips, key=lambda clip: -clip.samples)[processes.index :: processes.count]
    mels = iter(())
    # before anything is written or deleted, because clips that the model cannot read are refused
    with processes.stopping_together():
        depth = depth_of_mels(folder, clips)
        if not overwrite:
            refuse_other_clips(folder, share, depth, config)
        recorded = read_list(folder)
        missing = [
            clip
            for clip, name, checksum in checksums(share, depth, model.config)
            if overwrite or is_outdated(name, checksum, recorded) or not (folder / name).is_file()
        ]
        if missing:
            mels = teacher_forced_mels(model, missing, batch_size, num_workers, seed)
    with processes.stopping_together():
        if processes.is_main:
            made_from = {name: checksum for _, name, checksum in checksums(clips, depth, model.config)}
            claim_folder(folder, made_from, config, weights_fingerprint(model), seed, overwrite)

    difference, bins, unwritten = 0.0, 0, deque()
    with ThreadPoolExecutor(WRITERS) as pool:
        disable = None if processes.is_main else True
        for clip, predicted, true in tqdm(mels, total=len(missing), unit="clip", disable=disable):
            predicted, true = (convert_mel_scale(mel, model.config, config) for mel in (predicted, true))
            difference += (predicted - true).abs().sum().item()
            bins += true.numel()
            unwritten.append(pool.submit(write_mel, folder / mel_name(clip, depth), predicted))
            while len(unwritten) > MAX_UNWRITTEN:
                unwritten.popleft().result()
        for write in unwritten:
            write.result()
    written, difference, bins = map(
        sum, zip(*processes.gather((len(missing), difference, bins)), strict=True)
    )
    return written, difference / max(1, bins)


def write_mel(path: Path, mel: Tensor) -> None:
    buffer = io.BytesIO()  # NumPy's own writing to a file does not say that the disk is full
    np.save(buffer, mel.numpy().astype(np.float32))
    with atomic_write(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def parse_arguments(arguments: list[str] | None) -> tuple[SaveMelsOptions, Tacotron2, MelConfig]:
    """Return the options, the model and the mel to save: the model's, in the scale of the flags."""
    parser = build_parser("save_taco_mels.py", __doc__, SaveMelsOptions, MelConfig)
    flags = vars(parser.parse_args(arguments))
    options = SaveMelsOptions(**select(SaveMelsOptions, flags))
    model = load_tacotron2(options.taco_weights, options.device)
    if options.speaker:
        model = model.for_speaker(options.speaker)
    config = MelConfig(**select(MelConfig, model.config.to_dict() | flags))
    check_same_mel(model.config, config, str(options.taco_weights), "the flags", scale_matters=False)
    return options, model, config


@report_user_errors
def main(arguments: list[str] | None = None) -> None:
    processes = Processes()
    use_all_cores()
    options, model, config = parse_arguments(arguments)
    clips = distinct_clips(options.path_to_manifest, config, options.input_wavs_dir)
    start = time.perf_counter()
    try:
        made, difference = save_mels(
            model,
            clips,
            options.path_to_save,
            config,
            options.batch_size,
            limited_workers(options.num_workers),
            options.seed,
            options.overwrite,
            processes,
        )
    except OSError as error:
        raise UserError(f"can't write to {options.path_to_save}: {error}; choose another folder") from error
    if not processes.is_main:
        return
    seconds = time.perf_counter() - start
    existing = len(clips) - made
    print(
        f"{made} clips saved in {options.path_to_save}"
        + (f", {existing} existed already" if existing else "")
    )
    if made:
        print(f"mel error (L1, {config.mel_scale}): {difference:.4f}; {seconds:.1f} s")


if __name__ == "__main__":
    main()
