"""Translate a film frame by frame, in constant memory, and keep its sound."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from cyclegan_ms.data.formats import FILMS, check_megapixels
from cyclegan_ms.errors import UserError
from cyclegan_ms.files import atomic_path
from cyclegan_ms.translate.pictures import Picture, in_a_row, split_alpha

if TYPE_CHECKING:  # it imports MindSpore
    from cyclegan_ms.translate.translator import Translator

__all__ = ["FILM", "Film", "is_film", "require_av", "translate_film"]

FILM = ".mp4"
"""Ending of translated films."""

_SOUND = {"aac", "mp3", "ac3", "eac3", "alac", "flac", "opus"}
"""Kinds of sound that an MP4 file holds; others become AAC."""

_QUALITY = "18"
"""Of H.264's constant rate factor: below what is seen, by its makers."""

_BT709 = _LIMITED = 1
"""FFmpeg's numbers of ITU-R BT.709, by which players turn values into colours, and of its range."""


@dataclass
class Film:
    """What became of a film."""

    frames: int = 0
    whole: bool = False
    """whether all of it was translated and written; if not, nothing was written"""
    notes: list[str] = field(default_factory=list)
    """what was changed or left out, in words"""
    first: tuple[Image.Image, ...] = ()
    """the first frame and its translation"""


class _Stopped(Exception):
    """The rest is not wanted."""


def is_film(path) -> bool:
    """Return whether a name has a film's ending."""
    return Path(path).suffix.lower() in FILMS


def require_av() -> None:
    """Raise UserError unless PyAV is installed."""
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise UserError("films need PyAV: pip install av 'numpy<2'") from error


def translate_film(
    translator: "Translator",
    source,
    target,
    batch_size: int = 1,
    side_by_side: bool = False,
    max_megapixels: float = 0,
    watch: Callable[[int, int], bool] = lambda done, frames: False,
) -> Film:
    """Translate a film into an MP4 file (H.264), each frame on its own: it flickers.

    Size, times of frames, sound and description are kept; what was filmed upright stands upright.

    Args:
        translator: takes and gives gray or RGB.
        source: the film, of any type that FFmpeg reads.
        target: the file to write, completely or not at all.
        batch_size: number of frames to translate together.
        side_by_side: whether to put the original to the left of each frame.
        max_megapixels: refuse films with larger frames; 0 takes all.
        watch: called after each batch with the numbers of frames that are done and of all, 0 where
            the file does not tell; what it returns says whether to stop.

    Raises:
        OSError: it cannot be read or written.
    """
    import av

    if {translator.spec.in_channels, translator.spec.out_channels} - {1, 3}:
        raise OSError("a film has colours, the generator other bands")
    film = Film()
    try:
        with av.open(str(source)) as file:
            if not file.streams.video:
                raise OSError("holds no film, only sound")
            opening = next(file.decode(video=0))
            check_megapixels(opening, max_megapixels, "--max_megapixels")
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(target) as temporary:
            with av.open(str(source)) as file, av.open(str(temporary), "w") as result:
                writer = _Writer(file, result, opening, 2 if side_by_side else 1, film)
                for frames in writer.batches(batch_size):
                    images = [writer.upright(frame) for frame in frames]
                    fakes = _translated(translator, images)
                    film.first = film.first or (images[0], fakes[0])
                    for frame, *row in zip(frames, images, fakes):
                        writer.write(frame, in_a_row(row) if side_by_side else row[1])
                    film.frames += len(frames)
                    if watch(film.frames, file.streams.video[0].frames):
                        raise _Stopped
                writer.end()
            film.whole = True
    except _Stopped:
        pass  # `atomic_path` has removed what there was
    except StopIteration:
        raise OSError("holds no frame that can be read") from None
    except av.FFmpegError as error:
        if isinstance(error, av.InvalidDataError):
            raise OSError("no film, or damaged or cut off") from error
        raise OSError(f"{error.strerror or error}, in reading or writing a film") from error
    return film


def _translated(translator, images):
    """Translate images of one size into RGB."""
    pictures = [Picture(*split_alpha(image, translator.spec.in_channels)) for image in images]
    outputs = translator.pixels(np.stack([translator.prepare(it.image) for it in pictures]))
    return [translator.finish(*it).convert("RGB") for it in zip(outputs, pictures)]


class _Writer:
    """Writes the frames of a film, and copies its sound as it passes by.

    Args:
        file: the film, open.
        result: the file to write, open.
        opening: its first frame.
        columns: how many frames stand side by side.
        film: what is told of it.
    """

    def __init__(self, file, result, opening, columns: int, film: Film):
        self.file, self.result, self.film = file, result, film
        self.shape = {"width": opening.width, "height": opening.height}
        self.turns = opening.rotation // 90
        video = file.streams.video[0]
        context = video.codec_context
        upright = self.upright(opening).size
        # Colours are stored for blocks of 2 x 2 pixels.
        self.size = (upright[0] * columns // 2 * 2, upright[1] // 2 * 2)
        self.rate, self.time_base = Fraction(video.average_rate or 25), video.time_base
        # AVI gives times in the order of decoding: its frames are counted.
        self.counted = file.format.name == "avi"
        self.written, self.time = 0, -self.time_base
        self.stream = result.add_stream("libx264", rate=self.rate, options={"crf": _QUALITY})
        self.stream.pix_fmt = "yuv420p"
        self.stream.width, self.stream.height = self.size
        encoder = self.stream.codec_context
        encoder.time_base = self.time_base
        encoder.color_range = _LIMITED
        encoder.colorspace = encoder.color_primaries = encoder.color_trc = _BT709
        aspect = context.sample_aspect_ratio
        if aspect and columns == 1:
            encoder.sample_aspect_ratio = 1 / aspect if self.turns % 2 else aspect
        result.metadata.update(file.metadata)
        self.copies, self.encoders = {}, {}  # of sound, by the number of its stream
        for audio in file.streams.audio:
            if audio.codec_context.name in _SOUND:
                self.copies[audio.index] = result.add_stream_from_template(audio)
            else:
                film.notes.append(f"its sound ({audio.codec_context.name}) is AAC now")
                layout = "mono" if audio.channels == 1 else "stereo"
                self.encoders[audio.index] = result.add_stream(
                    "aac", rate=audio.rate, layout=layout
                )
        self._say_losses(opening, upright)

    def _say_losses(self, opening, upright):
        if opening.format.components[0].bits > 8:
            self.film.notes.append("reduced to 8 bits")
        if any(side % 2 for side in upright):
            self.film.notes.append("films have even sides: one row or column less")
        left = Counter(it.type for it in self.file.streams if it.type != "audio")
        left["video"] -= 1
        if +left:
            what = ", ".join(f"{count} of {kind}" for kind, count in (+left).items())
            self.film.notes.append(f"left out other streams: {what}")

    def batches(self, size: int) -> Iterator[list]:
        """Yield the film's frames, at most `size` at a time; sound between them is copied."""
        waiting: list = []
        for packet in self.file.demux(self.file.streams.video[0], *self.file.streams.audio):
            if packet.stream.type == "audio":
                self._copy(packet)
                continue
            for frame in packet.decode():
                waiting.append(frame)
                if len(waiting) == size:
                    yield waiting
                    waiting = []
        if waiting:
            yield waiting

    def _copy(self, packet):
        number = packet.stream.index
        if number in self.encoders:
            for frame in packet.decode():
                self.result.mux(self.encoders[number].encode(frame))
        elif packet.dts is not None:  # else it only ends the stream
            packet.stream = self.copies[number]
            self.result.mux(packet)

    def upright(self, frame) -> Image.Image:
        """Return a frame as it is to be seen, as RGB, of the size of the first one."""
        pixels = frame.reformat(format="rgb24", **self.shape).to_ndarray()
        return Image.fromarray(np.rot90(pixels, self.turns).copy())

    def write(self, frame, image) -> None:
        """Write an image at the time of a frame."""
        import av

        fresh = av.VideoFrame.from_image(image.crop((0, 0, *self.size)))
        fresh = fresh.reformat(format="yuv420p", dst_colorspace=_BT709, dst_color_range=_LIMITED)
        if self.counted or frame.pts is None:
            self.time = self.written / self.rate
        else:
            self.time = max(frame.pts * frame.time_base, self.time + self.time_base)
        self.written += 1
        fresh.pts, fresh.time_base = int(self.time / self.time_base), self.time_base
        self.result.mux(self.stream.encode(fresh))

    def end(self) -> None:
        """Write what the encoders still hold."""
        for stream in (self.stream, *self.encoders.values()):
            self.result.mux(stream.encode())
