#!/usr/bin/env python
"""Is the installation sound? python scripts/verify.py"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cyclegan_ms.cli import verify

if __name__ == "__main__":
    sys.exit(verify())
