#!/usr/bin/env python
"""Convert a generator: python scripts/convert_weights.py --input FILE.pth --output FILE.ckpt"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cyclegan_ms.cli import convert_weights

if __name__ == "__main__":
    sys.exit(convert_weights())
