# Sourced by demo.sh and test.sh: makes .venv, installs into it what is not there yet, and puts it first in PATH.
# Nothing outside the clone is written except pip's own cache.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
    echo "Python 3.10 or later is needed; name one: PYTHON=/path/to/python3 bash $0" >&2
    exit 2
}

# A finished installation leaves a copy of its requirements: with that, no package index is asked, and no network needed.
if ! cat requirements.txt requirements-dev.txt | cmp -s - .venv/installed.txt; then
    echo "Installing packages into .venv: a few minutes and several GB at first"
    "$python" -m venv .venv || {
        echo "$python can't make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2
        exit 2
    }
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
    cat requirements.txt requirements-dev.txt > .venv/installed.txt
fi

export PATH="$PWD/.venv/bin:$PATH"
export XDG_CACHE_HOME="$PWD/.cache" XDG_CONFIG_HOME="$PWD/.cache/config" MPLCONFIGDIR="$PWD/.cache/matplotlib"
export HF_HOME="$PWD/.cache/huggingface" WANDB_CACHE_DIR="$PWD/.cache/wandb" WANDB_CONFIG_DIR="$PWD/.cache/wandb"
export WANDB_DATA_DIR="$PWD/.cache/wandb" WANDB_MODE="${WANDB_MODE:-offline}"
