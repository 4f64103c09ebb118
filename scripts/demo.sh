#!/usr/bin/env bash
# From nothing to a vocoder that speaks: a corpus, a small vocoder trained on it, held-out clips resynthesised.
source "$(dirname "$0")/environment.sh"

echo "== A corpus: 300 sentences spoken by espeak-ng"
python scripts/make_corpus.py --output_dir demo/corpus --num_clips 300
python prep_splits.py --path_to_ljspeech demo/corpus --path_to_save demo/splits --test_split_pct 0.03

echo "== A small vocoder, trained for about three minutes"
accelerate launch --cpu --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no \
    --num_cpu_threads_per_process 1 train.py \
    --experiment_name vocoder --working_directory demo --resume_from_checkpoint latest \
    --path_to_train_manifest demo/splits/train_metadata.csv --path_to_val_manifest demo/splits/test_metadata.csv \
    --upsample_initial_channel 64 --discriminator_channels 32 --batch_size 8 --learning_rate 0.002 \
    --max_train_steps 600 --num_workers 1

echo "== The clips it has never heard"
mkdir -p demo/held_out
tail -n +2 demo/splits/test_metadata.csv | cut -d, -f1 | while read -r clip; do cp "demo/splits/$clip" demo/held_out/; done
python inference.py --checkpoint_file demo/vocoder/final_checkpoint --input_wavs_dir demo/held_out \
    --output_dir demo/generated --plot

echo
echo "Listen:  the original  demo/held_out/<clip>.wav   the vocoder  demo/generated/<clip>_generated.wav"
echo "Look:    demo/generated/<clip>_generated.png, their mel spectrograms side by side"
ls demo/generated/*.wav
