#!/usr/bin/env python
"""Export: python scripts/export.py --checkpoint RUN --direction a2b --format onnx --output F"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cyclegan_ms.cli import export

if __name__ == "__main__":
    sys.exit(export())
