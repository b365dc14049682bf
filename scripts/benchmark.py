#!/usr/bin/env python
"""Time and memory beside PyTorch: python scripts/benchmark.py --sizes 128 256"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cyclegan_ms.cli import benchmark

if __name__ == "__main__":
    sys.exit(benchmark())
