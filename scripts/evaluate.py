#!/usr/bin/env python
"""Metrics of a run: scripts/evaluate.py --checkpoint RUN --data.root DIR --output report.json"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cyclegan_ms.cli import evaluate

if __name__ == "__main__":
    sys.exit(evaluate())
