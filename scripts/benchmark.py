#!/usr/bin/env python
"""Time and memory beside PyTorch and the tutorial: python scripts/benchmark.py --sizes 128 256"""

import argparse
import json
import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cyclegan_ms.benchmark import LABELS, SIZES, markdown, measure


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256], choices=SIZES)
    parser.add_argument("--tasks", nargs="+", default=["data", "infer", "train"],
                        choices=["data", "infer", "train"])  # fmt: skip
    parser.add_argument("--subjects", nargs="+", default=list(LABELS), choices=LABELS,
                        help="beside cyclegan_ms itself (default: all installed)")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=7, help="turns of each (default: 7)")
    parser.add_argument("--device", default="auto", choices=["auto", "Ascend", "GPU", "CPU"])
    parser.add_argument("--output", default="benchmark.json", help="also written: the same as .md")
    args = parser.parse_args(argv)
    output = Path(args.output)
    if output.exists():
        parser.error(f"--output {output} exists")
    if not output.resolve().parent.is_dir():
        parser.error(f"--output {output}: no such folder")

    packages = {"pytorch": "torch", "onnxruntime": "onnxruntime"}
    others = [name for name in args.subjects if name != "cyclegan_ms"]
    missing = [n for n in others if n in packages and find_spec(packages[n]) is None]
    for name in missing:
        print(f"left out {LABELS[name]}: {packages[name]} is not installed", file=sys.stderr)
    subjects = ["cyclegan_ms", *(name for name in others if name not in missing)]
    report = measure(
        args.tasks, args.sizes, subjects, args.rounds, args.device,
        say=lambda line: print(line, file=sys.stderr),
    )  # fmt: skip
    output.write_text(json.dumps(report, indent=1))
    output.with_suffix(".md").write_text(markdown(report))
    print(markdown(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
