#!/usr/bin/env bash
# The whole pipeline, small: a corpus, a vocoder, a Tacotron 2, its mels, the vocoder fine-tuned on them, speech.
source "$(dirname "$0")/environment.sh"

launch() { # one process on the CPU, whatever `accelerate config` was told
    accelerate launch --cpu --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no \
        --num_cpu_threads_per_process 1 "$@" --working_directory demo --resume_from_checkpoint latest --num_workers 1 \
        --path_to_train_manifest demo/splits/train_metadata.csv --path_to_val_manifest demo/splits/test_metadata.csv
}
vocoder_flags=(--upsample_initial_channel 64 --discriminator_channels 32 --batch_size 8)

echo "== A corpus: 300 sentences spoken by espeak-ng"
python scripts/make_corpus.py --output_dir demo/corpus --num_clips 300
python prep_splits.py --path_to_ljspeech demo/corpus --path_to_save demo/splits --test_split_pct 0.03

echo "== A small vocoder, trained for about three minutes"
launch train.py --experiment_name vocoder "${vocoder_flags[@]}" --learning_rate 0.002 --max_train_steps 600

echo "== A Tacotron 2, from the voice that comes along: a minute"
launch -m tacotron2.train --experiment_name tacotron2 --path_to_pretrained_weights voices/espeak/tacotron2 \
    --batch_size 16 --learning_rate 0.0003 --guided_attention_weight 5 --max_train_steps 40

echo "== Its teacher-forced mels, and the vocoder fine-tuned on them: a minute each"
python save_taco_mels.py --path_to_manifest demo/splits/train_metadata.csv demo/splits/test_metadata.csv \
    --path_to_save demo/mels --taco_weights demo/tacotron2/final_checkpoint
launch train.py --experiment_name finetuned --finetune --path_to_saved_mels demo/mels \
    --path_to_pretrained_weights demo/vocoder/final_checkpoint "${vocoder_flags[@]}" --learning_rate 0.0005 \
    --max_train_steps 150

echo "== Clips it has never heard, and a text that nobody has"
mkdir -p demo/held_out
tail -n +2 demo/splits/test_metadata.csv | cut -d, -f1 | while read -r clip; do cp "demo/splits/$clip" demo/held_out/; done
python inference.py --checkpoint_file demo/vocoder/final_checkpoint --input_wavs_dir demo/held_out \
    --output_dir demo/generated --plot
text="A voice, made on this computer in ten minutes, says hello. What shall it say next?"
python inference.py --text "$text" --output_dir demo/spoken --plot \
    --taco_weights demo/tacotron2/final_checkpoint --checkpoint_file demo/finetuned/final_checkpoint
python inference.py --text "$text" --output_dir demo/spoken_by_the_voice_that_comes_along

echo
echo "Listen:  the original  demo/held_out/<clip>.wav   the vocoder  demo/generated/<clip>_generated.wav"
echo "         the text  demo/spoken/speech.wav   by the trained voice  demo/spoken_by_the_voice_that_comes_along/speech.wav"
echo "Look:    demo/generated/<clip>_generated.png, mels side by side;  demo/spoken/speech_1.png, mel and attention"
ls demo/generated/*.wav
