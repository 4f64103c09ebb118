"""The official HiFi-GAN's name for `python inference.py --input_mels_dir test_mel_files`."""

import sys

from inference import main

if __name__ == "__main__":
    main(["--input_mels_dir", "test_mel_files", *sys.argv[1:]])
