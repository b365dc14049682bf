# Sourced by quickstart.sh and test.sh: make and enter a virtual environment with this package.
#
#   source scripts/setup_env.sh FOLDER REQUIREMENT
#
# MindSpore 2.8.0 unless MINDSPORE says otherwise: on two kinds of CPU it trained between 25 % faster
# and 8 % slower than 2.10.0.
find_python() {
    for candidate in "${PYTHON:-}" python3 python python3.12 python3.11 python3.10; do
        if [ -n "$candidate" ] && "$candidate" -c \
            'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "error: no Python 3.10, 3.11 or 3.12 found; set PYTHON to one" >&2
    return 2
}

if [ ! -x "$1/bin/python" ]; then
    python=$(find_python)
    "$python" -m venv "$1"
fi
source "$1/bin/activate"
echo "installing into $1 ..."
pip install --quiet --disable-pip-version-check "mindspore==${MINDSPORE:-2.8.0}" -e "$2"
