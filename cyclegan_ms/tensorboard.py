"""Metrics and sample pictures for TensorBoard, where they are wanted."""

import logging
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from cyclegan_ms.config import UserError
from cyclegan_ms.report import MEASURES

__all__ = ["Board", "require_tensorboard"]

log = logging.getLogger(__name__)


def require_tensorboard() -> None:
    """Check that tensorboardX is there.

    Raises:
        UserError: it is not installed.
    """
    try:
        import tensorboardX  # noqa: F401
    except ImportError as error:
        raise UserError(
            "train.tensorboard needs tensorboardX: pip install -e '.[tensorboard]'"
        ) from error


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
            self._try(lambda: self._open(Path(folder), step))

    def _open(self, folder, step):
        # Not tensorboardX's SummaryWriter: it writes in a thread, which a full disk ends, and then
        # waits for that thread for ever.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import SessionLog

        folder.mkdir(parents=True, exist_ok=True)
        self.writer = EventsWriter(str(folder / "events"))
        self._write(step + 1, session_log=SessionLog(status=SessionLog.START))

    def metrics(self, row: dict) -> None:
        """A line of metrics.jsonl."""
        if not self.writer:
            return
        from tensorboardX.summary import scalar

        for name, value in row.items():
            if name not in ("epoch", "step"):
                tag = f"training/{name}" if name in MEASURES else f"loss/{name}"
                self._try(lambda t=tag, v=value: self._write(row["step"], summary=scalar(t, v)))

    def picture(self, image: Image.Image, step: int) -> None:
        """A grid of samples."""
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
            log.warning("TensorBoard's files cannot be written, and are no more: %s", error)
            self.writer = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.writer:
            with suppress(Exception):
                self.writer.close()
