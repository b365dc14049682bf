"""List the commands: python -m cyclegan_ms."""

from cyclegan_ms import __version__, cli

COMMANDS = ("verify", "prepare_data", "train", "infer", "demo", "evaluate", "export",
            "convert_weights", "benchmark")  # fmt: skip
"""In the order in which they are wanted."""


def main() -> None:
    """Print every command and what it does."""
    print(f"cyclegan_ms {__version__}, CycleGAN on MindSpore. Each command has --help:")
    names = [f"cyclegan-{name.replace('_', '-')}" for name in COMMANDS]
    width = max(map(len, names))
    for name, command in zip(names, COMMANDS):
        print(f"  {name:{width}}  {getattr(cli, command).__doc__.splitlines()[0]}")
    print("In a checkout each is also python scripts/NAME.py, with underscores for hyphens.")


if __name__ == "__main__":
    main()
