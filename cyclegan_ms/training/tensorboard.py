"""Metrics and sample pictures for TensorBoard, if wanted."""

import logging
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from cyclegan_ms.errors import UserError
from cyclegan_ms.training.progress import MEASURES

__all__ = ["Board", "require_tensorboard"]

log = logging.getLogger(__name__)


def require_tensorboard() -> None:
    """Raise UserError unless tensorboardX is installed."""
    try:
        import tensorboardX  # noqa: F401
    except ImportError as error:
        raise UserError(
            "train.tensorboard needs tensorboardX: pip install tensorboardX 'numpy<2'"
        ) from error


class Board:
    """Writes event files, or nothing. A failure to write gives one warning and ends nothing.

    Args:
        folder: where to write.
        wanted: whether to write at all.
        step: number of steps done before; events of earlier files beyond it are ignored.
    """

    def __init__(self, folder, wanted: bool, step: int = 0):
        self.writer = None
        if wanted:
            self._try(lambda: self._open(Path(folder), step))

    def _open(self, folder, step):
        # Not tensorboardX's SummaryWriter: it writes in a thread, which a full disk ends, and then
        # waits forever for that thread.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import SessionLog

        folder.mkdir(parents=True, exist_ok=True)
        self.writer = EventsWriter(str(folder / "events"))
        self._write(step + 1, session_log=SessionLog(status=SessionLog.START))

    def metrics(self, row: dict) -> None:
        """Write a line of metrics.jsonl."""
        if not self.writer:
            return
        from tensorboardX.summary import scalar

        for name, value in row.items():
            if name not in ("epoch", "step"):
                tag = f"training/{name}" if name in MEASURES else f"loss/{name}"
                self._try(lambda t=tag, v=value: self._write(row["step"], summary=scalar(t, v)))

    def picture(self, image: Image.Image, step: int) -> None:
        """Write a grid of samples."""
        if not self.writer:
            return
        from tensorboardX.summary import image as picture

        pixels = np.asarray(image)
        self._try(lambda: self._write(step, summary=picture("samples", pixels, dataformats="HWC")))

    def _write(self, step, **content):
        from tensorboardX.proto.event_pb2 import Event

        if self.writer:
            self.writer.write_event(Event(step=step, wall_time=time.time(), **content))
            self.writer.flush()

    def _try(self, action):
        try:
            action()
        except Exception as error:
            log.warning(
                "Could not write TensorBoard files; TensorBoard logging is off from here on: %s",
                error,
            )
            self.writer = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.writer:
            with suppress(Exception):
                self.writer.close()
