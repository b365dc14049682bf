"""Metrics and sample pictures for TensorBoard, where they are wanted."""

import logging
from contextlib import suppress

import numpy as np
from PIL import Image

from cyclegan_ms.config import UserError

__all__ = ["Board", "require_tensorboard"]

log = logging.getLogger(__name__)


def require_tensorboard():
    """tensorboardX's writer of event files.

    Raises:
        UserError: tensorboardX is not installed.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise UserError(
            "train.tensorboard needs tensorboardX: pip install 'cyclegan_ms[tensorboard]'"
        ) from error
    return SummaryWriter


class Board:
    """Writes event files, or nothing. A failure to write is warned of once and ends nothing.

    Args:
        folder: where to.
        wanted: whether to write at all.
        step: steps done before; what earlier event files say of later ones is void.
    """

    def __init__(self, folder, wanted: bool, step: int = 0):
        self.writer = None
        if wanted:
            self._try(lambda: self._open(folder, step))

    def _open(self, folder, step):
        self.writer = require_tensorboard()(str(folder), purge_step=step + 1)

    def metrics(self, row: dict) -> None:
        """A line of metrics.jsonl."""
        values = {name: value for name, value in row.items() if name not in ("epoch", "step")}
        for name, value in values.items():
            group = "training" if name in ("learning_rate", "step_s", "images_per_s") else "loss"
            self._write("add_scalar", f"{group}/{name}", value, row["step"])

    def picture(self, image: Image.Image, step: int) -> None:
        """A grid of samples."""
        self._write("add_image", "samples", np.asarray(image), step, dataformats="HWC")

    def _write(self, method, *values, **options):
        if self.writer:
            self._try(lambda: getattr(self.writer, method)(*values, **options))

    def _try(self, action):
        try:
            action()
        except Exception as error:
            log.warning("TensorBoard's files cannot be written, and are no more: %s", error)
            self.writer = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.writer:
            with suppress(Exception):
                self.writer.close()
