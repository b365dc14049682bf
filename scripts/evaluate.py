#!/usr/bin/env python
"""Measure a run: python scripts/evaluate.py --checkpoint RUN --output report.json"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cyclegan_ms.cli import evaluate

if __name__ == "__main__":
    sys.exit(evaluate())
