#!/usr/bin/env bash
# Set-up and tests: make an environment, install with [dev], check style, spelling, types and import
# rules, run all tests, two at a time.
#
#   bash scripts/test.sh [PYTEST_ARGUMENT ...]
#
# PYTHON picks the interpreter (3.10 to 3.12), MINDSPORE the version to install.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/setup_env.sh ".venv-test-${MINDSPORE:-2.8.0}" ".[dev]"
if ! { command -v chromium || command -v chromium-browser || command -v google-chrome; } > /dev/null; then
    echo "installing Chromium, which tests of pages need ..."
    apt-get install -y -qq chromium > /dev/null
fi
ruff check .
ruff format --check .
codespell
mypy
lint-imports
exec python -m pytest -n 2 --dist loadfile "$@"
