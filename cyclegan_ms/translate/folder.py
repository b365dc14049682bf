"""Carry out a plan: translate pictures and films into a folder, losing none of them."""

import os
import time
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from cyclegan_ms.data.formats import check_megapixels, open_image, pillow_errors, twice
from cyclegan_ms.data.images import FolderRange
from cyclegan_ms.errors import UserError
from cyclegan_ms.files import shown
from cyclegan_ms.interrupt import StopRequest
from cyclegan_ms.translate.depth import EIGHT_BITS
from cyclegan_ms.translate.films import is_film, translate_film
from cyclegan_ms.translate.page import Album
from cyclegan_ms.translate.pictures import in_a_row, open_picture, save_picture, with_alpha
from cyclegan_ms.translate.plan import Job, Options
from cyclegan_ms.translate.progress import Done, Progress

if TYPE_CHECKING:  # it imports MindSpore
    from cyclegan_ms.translate.translator import Translator

__all__ = ["Outcome", "translate_files"]

_LOOKED_AT = 1000
"""Files whose sizes are read beforehand, at most: it takes a disk in a network some time."""


@dataclass
class Outcome:
    """What became of each input."""

    written: list[Path] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)
    notes: list[tuple[Path, str]] = field(default_factory=list)
    unfinished: int = 0
    """number of inputs left when it was stopped"""
    seconds: float = 0.0


def translate_files(
    translator: "Translator",
    jobs: list[Job],
    options: Options,
    back: "Translator | None" = None,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
    album: Album | None = None,
) -> Outcome:
    """Do the jobs of a plan. A bad input is noted, and the rest goes on.

    Args:
        translator: does the work.
        jobs: from `plan`.
        options: as given to `plan`.
        back: the translator of the other direction, for `options.cycle`.
        progress: is told how far the work is.
        stop: ends the work once its `caught` is set: after the current images, or within a large
            one, which is left out.
        album: is given what a page is to show.

    Raises:
        UserError: the type of the results has no place for the generator's bands.
    """
    bands = translator.spec.out_channels
    if bands not in (1, 3) and options.format not in (None, "tif"):
        raise UserError(f"--format {options.format} has no place for {bands} bands; tif has")
    return _Work(translator, options, back, progress or _nobody, stop, album).do(jobs)


def _nobody(done):
    """Tell nobody how far it is."""


@dataclass
class _Work:
    """The arguments of `translate_files`, and what has become of its jobs so far."""

    translator: "Translator"
    options: Options
    back: "Translator | None"
    progress: Progress
    stop: StopRequest | None
    album: Album | None
    result: Outcome = field(default_factory=Outcome)

    def do(self, jobs: list[Job]) -> Outcome:
        """Do the jobs, pictures first."""
        begun = time.monotonic()
        todo = []
        for job in jobs:
            if self.options.skip_existing and all(map(os.path.lexists, job.targets)):
                self.result.skipped.append(job.source)
            else:
                todo.append(job)
        films = [job for job in todo if is_film(job.source)]
        done = self._translate_pictures([job for job in todo if not is_film(job.source)])
        for job in films:
            if self.is_stopped():
                break
            done += self._translate_film(job)
        self.result.unfinished = len(todo) - done
        self.result.seconds = time.monotonic() - begun
        return self.result

    def is_stopped(self) -> bool:
        """Return whether the work is to end."""
        return bool(self.stop and self.stop.caught)

    def _note_failure(self, job, error):
        self.result.failed.append((job.source, _reason(error)))

    def _note_result(self, job, notes):
        self.result.written.append(job.target)
        self.result.notes += [(job.source, note) for note in notes]

    def _translate_film(self, job):
        """Translate a film; return 1 if that came to an end, however, and 0 if it was stopped."""

        def watch(done, frames):
            share = done / frames if frames else 0
            self.progress(Done(done, frames, "frame", shown(job.source.name), share))
            return self.is_stopped()

        options = self.options
        try:
            film = translate_film(
                self.translator, job.source, job.target, options.batch_size, options.side_by_side,
                options.max_megapixels, watch,
            )  # fmt: skip
            if film.whole and self.album:
                original, translation = film.first
                notes = [f"{film.frames} frames", *film.notes]
                self.album.add(job.target, original, [translation], notes)
        except Exception as error:  # an engine has its own for too little memory
            self._note_failure(job, error)
            return 1
        if film.whole:
            self._note_result(job, film.notes)
        return int(film.whole)

    def _translate_pictures(self, jobs):
        """Translate pictures; return the number of those that came to an end, however."""
        if not jobs:
            return 0
        done = 0
        efforts = np.cumsum([0, *self._efforts(jobs)])
        loaded = self._read_ahead(jobs)
        for batch in _batches(loaded, self.options.batch_size):
            within = _Within(self, batch, done, efforts)
            try:
                self._translate_batch(batch, within)
            except _Stopped:
                break
            done += len(batch)
            within.tell(len(batch))
            if self.is_stopped():
                break
        loaded.close()
        return done

    def _efforts(self, jobs):
        """Return how long each picture takes, compared with the others.

        Of many, some are looked at, and the rest is taken for as large as these on average.
        """

        def effort(job):
            try:
                with pillow_errors(), open_image(job.source) as file:
                    check_megapixels(file, self.options.max_megapixels, "--max_megapixels")
                    return self.translator.effort((file.width, file.height))
            except OSError:
                return 0.0  # why, is said when its turn comes

        step = -(-len(jobs) // _LOOKED_AT)
        looked = np.array([effort(job) for job in jobs[::step]])
        efforts = np.full(len(jobs), looked.mean())
        efforts[::step] = looked
        return efforts

    def _ranges(self, jobs):
        """Return what black and white are in inputs of more than 8 bits, and in their results.

        As the translator has it; else the same for all inputs, which are all looked at.
        """
        translator = self.translator
        if translator.source:
            return translator.source, translator.target
        found = FolderRange(self.options.max_megapixels, translator.spec.in_channels)
        found.look([job.source for job in jobs], most=None)
        return found.settle("--input"), translator.target

    def _read_ahead(self, jobs) -> Generator:
        """Yield (job, (picture, pixels) or an error) of every job, decoded ahead."""
        options, ranges = self.options, self._ranges(jobs)

        def read(job):
            try:
                channels = self.translator.spec.in_channels
                picture = twice(open_picture, job.source, channels, options.max_megapixels, *ranges)
                if options.bits == 8 and picture.depth:
                    picture.depth = EIGHT_BITS
                return picture, self.translator.prepare(picture.image)
            except (OSError, MemoryError) as error:
                return error

        with ThreadPoolExecutor(1) as pool:
            waiting: deque[tuple[Job, Future]] = deque()
            try:
                for job in jobs:
                    waiting.append((job, pool.submit(read, job)))
                    if len(waiting) > options.batch_size:
                        ready, future = waiting.popleft()
                        yield ready, future.result()
                while waiting:
                    ready, future = waiting.popleft()
                    yield ready, future.result()
            finally:
                for _, future in waiting:
                    future.cancel()

    def _translate_batch(self, batch, within):
        good = []
        for job, content in batch:
            if isinstance(content, BaseException):
                self._note_failure(job, content)
            else:
                good.append((job, *content))
        if not good:
            return
        try:
            fakes = self.translator.pixels(np.stack([pixels for _, _, pixels in good]), within)
            recs = self.back.pixels(fakes, within) if self.back else [None] * len(good)
        except _Stopped:
            raise
        except Exception as error:  # every engine has its own
            if len(good) > 1:  # together they may be too large
                for job, picture, pixels in good:
                    self._translate_batch([(job, (picture, pixels))], within)
            else:
                self._note_failure(good[0][0], error)
            return
        for (job, picture, _), fake, rec in zip(good, fakes, recs):
            try:
                self._write(job, picture, fake, rec)
            except (OSError, MemoryError) as error:
                self._note_failure(job, error)
            else:
                self._note_result(job, picture.notes)

    def _write(self, job, picture, fake, rec):
        options, finish = self.options, self.translator.finish
        images = [finish(pixels, picture) for pixels in (fake, rec) if pixels is not None]
        if options.side_by_side:
            images = [picture.image, *images]
        images = [
            image if isinstance(image, np.ndarray) else with_alpha(image, picture.alpha)
            for image in images
        ]
        if options.side_by_side:
            images = [in_a_row(images)]
        for target, image in zip(job.targets, images):
            if not (options.skip_existing and os.path.lexists(target)):
                save_picture(target, image, picture, options.quality)
        if self.album:
            before = picture.image
            if options.side_by_side:
                before = None
            elif isinstance(before, Image.Image):
                before = with_alpha(before, picture.alpha)
            self.album.add(job.target, before, images, picture.notes)


def _batches(items, size):
    """Yield consecutive items of one shape, at most `size` of them at a time."""
    for _, same in groupby(items, key=lambda item: _shape(item[1])):
        while batch := list(islice(same, size)):
            yield batch


def _shape(content):
    return () if isinstance(content, BaseException) else content[1].shape


class _Stopped(Exception):
    """The work is to end within a picture."""


class _Within:
    """Tells how much of a batch of large pictures is done, which each go from 0 to 1 in turn.

    Raises _Stopped where the work is to end: a large picture may take minutes more.
    """

    def __init__(self, work: _Work, batch, before: int, efforts: np.ndarray):
        self.work, self.before = work, before
        self.size, self.rounds = len(batch), 2 if work.back else 1
        self.total = len(efforts) - 1
        self.efforts = efforts
        """of the pictures before each, and at last of all"""
        self.name = shown(batch[0][0].source.name)
        self.done, self.last = 0, 0.0
        self.tell(0)

    def __call__(self, share: float) -> None:
        """Note the share of a translation, or of the way back, that is done, 0 to 1."""
        if self.work.is_stopped():
            raise _Stopped
        if share < self.last:
            self.done += 1
        self.last = share
        self.tell(min((self.done + share) / self.rounds, self.size - 0.01))

    def tell(self, done: float) -> None:
        """Tell how many pictures of the batch are done."""
        count = self.before + done
        effort = np.interp(count, np.arange(self.total + 1), self.efforts)
        share = float(effort / self.efforts[-1]) if self.efforts[-1] else 0.0
        self.work.progress(Done(count, self.total, "image", self.name, share))


def _reason(error):
    if isinstance(error, FileNotFoundError):
        return "a link that leads nowhere"
    text = getattr(error, "strerror", None) or str(error)
    if isinstance(error, MemoryError):
        text = text or "out of memory"
    return (text.strip().splitlines() or [type(error).__name__])[0]
