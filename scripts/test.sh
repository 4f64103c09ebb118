#!/usr/bin/env bash
# Set up the environment and run the tests: bash scripts/test.sh [pytest's arguments]
source "$(dirname "$0")/environment.sh"
ruff check .
python -m pytest --basetemp .cache/pytest "$@"
