#!/usr/bin/env bash
# Run ruff and the tests in .venv, which is created first: bash scripts/test.sh [arguments of pytest]
requirements=(requirements.txt requirements-speak.txt requirements-dev.txt)
source "$(dirname "$0")/environment.sh"
install_optional pesq pesq "it needs a C compiler. The tests of PESQ are skipped."
ruff check .
mkdir -p .cache
# one process per core; a file's tests stay together, since they share corpora and models
python -m pytest --basetemp .cache/pytest --numprocesses auto --dist loadfile "$@"
