#!/usr/bin/env bash
# Set-up and main job: make an environment, train on the shipped sample, translate its test images.
#
#   bash scripts/quickstart.sh [RUN_FOLDER]      default: runs/quickstart
#
# PYTHON picks the interpreter (3.10 to 3.12), MINDSPORE the version to install.
set -euo pipefail
run=$(realpath -m "${1:-$(dirname "$0")/../runs/quickstart}")
from=$PWD
cd "$(dirname "$0")/.."
[ "$from" != "$PWD" ] || run=${run#"$PWD/"}
if [ -e "$run" ]; then
    echo "$run exists; remove it or name another folder: bash scripts/quickstart.sh runs/second" >&2
    exit 2
fi

source scripts/setup_env.sh .venv "."

python scripts/train.py --config quickstart --output "$run"
for direction in apple2orange orange2apple; do
    split=$([ $direction = apple2orange ] && echo testA || echo testB)
    python scripts/infer.py --checkpoint "$run" --direction $direction \
        --input "data/sample/$split" --output "$run/$direction" --page
done
echo
echo "What came of it:     $run/apple2orange and $run/orange2apple"
echo "How it was trained:  $run/index.html"
echo "Your own pictures:   source .venv/bin/activate && pip install -e '.[demo]'"
echo "                     python scripts/demo.py --checkpoint apple2orange"
