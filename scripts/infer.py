#!/usr/bin/env python
"""Translate: python scripts/infer.py --checkpoint RUN --direction a2b --input A --output B"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cyclegan_ms.cli import infer

if __name__ == "__main__":
    sys.exit(infer())
