#!/usr/bin/env python
"""Train a CycleGAN: python scripts/train.py --config apple2orange"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cyclegan_ms.cli import train

if __name__ == "__main__":
    sys.exit(train())
