"""List the commands, or run one: python -m cyclegan_ms [COMMAND ...]."""

import sys

from cyclegan_ms import __version__, cli
from cyclegan_ms.errors import did_you_mean

COMMANDS = ("verify", "prepare_data", "train", "infer", "demo", "evaluate", "export",
            "convert_weights", "benchmark")  # fmt: skip
"""In the order in which they are wanted."""


def main() -> int:
    """Run the command that is named, or print every command and what it does."""
    if len(sys.argv) > 1:
        name = sys.argv[1].removeprefix("cyclegan-").replace("-", "_")
        if sys.argv[1] == "--version":
            print(f"cyclegan_ms {__version__}")
            return 0
        if name in COMMANDS:
            return getattr(cli, name)(sys.argv[2:])
        if sys.argv[1] not in ("--help", "-h"):
            advice = did_you_mean(name, COMMANDS)
            print(f"error: there is no command {sys.argv[1]}; {advice}", file=sys.stderr)
            return 2
    print(f"cyclegan_ms {__version__}, CycleGAN on MindSpore. Each command has --help:")
    names = [f"cyclegan-{name.replace('_', '-')}" for name in COMMANDS]
    width = max(map(len, names))
    for name, command in zip(names, COMMANDS):
        print(f"  {name:{width}}  {getattr(cli, command).__doc__.splitlines()[0]}")
    print("Each is also python -m cyclegan_ms NAME, and in a checkout python scripts/NAME.py, with")
    print("underscores for hyphens.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
