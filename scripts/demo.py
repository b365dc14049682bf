#!/usr/bin/env python
"""Try it in a browser: python scripts/demo.py --checkpoint RUN"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cyclegan_ms.cli import demo

if __name__ == "__main__":
    sys.exit(demo())
