"""How well each voice is understood, and how natural it sounds: `python benchmarks/voices.py`.

Each voice speaks the sentences of `benchmarks/everyday_sentences.txt`, which are in no training corpus, as
`inference.py --text` does. A speech recognizer transcribes the clips. The table has the word error rate over
all sentences and the mean DistillMOS. The clips are saved in `generated_voices/<voice>/`, where `errors.txt`
lists the sentences with errors.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from checkpoint.voices import find_voice, list_voices
from common.errors import UserError, report_user_errors
from evaluation.inputs import Unavailable
from evaluation.perception import distillmos, distillmos_model
from evaluation.recognition import shared_recognizer, word_errors
from synthesis.inputs import read_text
from synthesis.speech import load_text_to_speech

SENTENCES = Path(__file__).parent / "everyday_sentences.txt"


def measure_voice(name: str, sentences: list[str], recognizer: str, seed: int, folder: Path) -> str:
    """Speak the sentences with a voice, and return its row of the table."""
    tts = load_text_to_speech(find_voice(name))
    folder.mkdir(parents=True, exist_ok=True)
    counts, ratings, misheard = [], [], []
    for number, sentence in enumerate(tqdm(sentences, desc=name, disable=None), 1):
        path = folder / f"{number:03}.wav"
        soundfile.write(path, tts.synthesize(sentence, seed).clip(-1, 1), tts.sampling_rate)
        audio, rate = soundfile.read(path, dtype="float32")
        heard = shared_recognizer(recognizer).transcribe(audio, rate)
        counts.append(word_errors(sentence, heard))
        ratings.append(distillmos(audio, rate))
        if counts[-1][0]:
            misheard.append(f"{number:03}  {sentence}\n     {heard}\n")
    (folder / "errors.txt").write_text("".join(misheard), encoding="utf-8")
    errors, words = np.sum(counts, axis=0)
    rate = f"{100 * errors / words:5.1f} % ({errors} of {words} words)"
    return f"{Path(name).name:<16} {rate}   {np.mean(ratings):.2f}"


@report_user_errors
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--voices", nargs="+", help="names or folders of voices; default: all bundled ones")
    parser.add_argument("--text_file", type=Path, default=SENTENCES, help="file with a sentence per line")
    parser.add_argument("--recognizer", default="tiny.en", help="Whisper model, as in evaluate.py")
    parser.add_argument("--seed", type=int, default=0, help="seed of the prenet's dropout")
    parser.add_argument("--output_dir", type=Path, default=Path("generated_voices"), help="output folder")
    args = parser.parse_args()
    sentences = read_text(args.text_file).split("\n")
    sentences = [sentence for sentence in sentences if sentence.strip()]
    names = args.voices or [voice.name for voice in list_voices()]
    if not sentences:
        raise UserError(f"{args.text_file} has no sentences; write one per line")
    if len({Path(name).name for name in names}) < len(names):
        raise UserError("two of the --voices have the same name; rename one of the folders")
    try:
        distillmos_model("cpu"), shared_recognizer(args.recognizer)
    except Unavailable as error:
        raise UserError(str(error)) from error
    rows = [
        measure_voice(name, sentences, args.recognizer, args.seed, args.output_dir / Path(name).name)
        for name in names
    ]
    print(f"{'voice':<16} word errors{'':<23}DistillMOS", *rows, sep="\n")


if __name__ == "__main__":
    main()
