#!/usr/bin/env python
"""Fetch apple2orange: python scripts/prepare_data.py --name apple2orange"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cyclegan_ms.cli import prepare_data

if __name__ == "__main__":
    sys.exit(prepare_data())
