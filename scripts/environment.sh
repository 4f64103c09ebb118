# Sourced by demo.sh and test.sh. Creates .venv, installs the files in the array `requirements`, and puts .venv first in PATH.
# Writes only inside the repository, apart from pip's cache.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
    echo "Python 3.10 or later is required; select one with PYTHON=/path/to/python3 bash $0" >&2
    exit 2
}

# A copy of the installed requirements is the sign that an installation is complete. It avoids asking the package index again.
if ! cat "${requirements[@]}" | cmp -s - .venv/installed-by-"$(basename "$0")"; then
    echo "Installing ${requirements[*]} into .venv. The first installation takes a few minutes and several gigabytes."
    "$python" -m venv .venv || {
        echo "$python cannot create a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2
        exit 2
    }
    .venv/bin/python -m pip install --quiet --disable-pip-version-check "${requirements[@]/#/--requirement=}"
    cat "${requirements[@]}" > .venv/installed-by-"$(basename "$0")"
fi

export PATH="$PWD/.venv/bin:$PATH"
export XDG_CACHE_HOME="$PWD/.cache" XDG_CONFIG_HOME="$PWD/.cache/config" MPLCONFIGDIR="$PWD/.cache/matplotlib"
export HF_HOME="$PWD/.cache/huggingface" WANDB_CACHE_DIR="$PWD/.cache/wandb" WANDB_CONFIG_DIR="$PWD/.cache/wandb"
export WANDB_DATA_DIR="$PWD/.cache/wandb" WANDB_MODE="${WANDB_MODE:-offline}"

# install_optional PACKAGE MODULE CONSEQUENCE: install a package that is useful but not required.
install_optional() {
    python -c "import importlib.util, sys; sys.exit(importlib.util.find_spec('$2') is None)" && return
    python -m pip install --quiet --disable-pip-version-check --retries 0 "$1" > /dev/null 2>&1 ||
        echo "$1 could not be installed: $3"
}
