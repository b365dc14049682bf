"""Translate a file or a folder of pictures into a folder, and films, losing none of them."""

import os
import time
from collections import Counter, deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from glob import glob
from itertools import chain, groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from cyclegan_ms.data.formats import (
    find_images,
    known_endings,
    twice,
)
from cyclegan_ms.data.images import FolderRange
from cyclegan_ms.errors import UserError
from cyclegan_ms.files import check_writable, shown
from cyclegan_ms.interrupt import StopRequest
from cyclegan_ms.translate.depth import EIGHT_BITS
from cyclegan_ms.translate.films import FILM, is_film, require_av, translate_film
from cyclegan_ms.translate.page import Album, check_page
from cyclegan_ms.translate.pictures import (
    WRITABLE,
    in_a_row,
    open_picture,
    save_picture,
    with_alpha,
)
from cyclegan_ms.translate.progress import Progress

if TYPE_CHECKING:  # it imports MindSpore
    from cyclegan_ms.translate.translator import Translator

__all__ = ["Job", "Options", "Outcome", "folder_of", "plan", "translate_files"]


@dataclass(frozen=True)
class Options:
    """How results are made and written."""

    format: str | None = None
    """png, jpg, webp or tif; None keeps each input's type, or takes png where it is not written"""
    quality: int = 95
    """quality of JPEG and WebP, 1 to 100"""
    batch_size: int = 1
    """number of images of one size to translate together"""
    side_by_side: bool = False
    """put the original to the left of each result"""
    cycle: bool = False
    """also write what the other generator makes of the result"""
    skip_existing: bool = False
    """leave out inputs that already have results"""
    max_megapixels: float = 200
    """refuse larger pictures; 0 takes all"""
    bits: int | None = None
    """8 reduces results to that; None keeps the depth of each input"""
    page: bool = False
    """write index.html beside the results"""


@dataclass(frozen=True)
class Job:
    """One input and where its result goes."""

    source: Path
    target: Path

    cycle_target: Path | None = None
    """where its reconstruction goes, if it has a file of its own"""

    @property
    def targets(self) -> list[Path]:
        """All files that it gives."""
        return [path for path in (self.target, self.cycle_target) if path]


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


def plan(sources, output, options: Options) -> list[Job]:
    """List what to make of files and folders, and check it before anything is loaded.

    Films are taken where they are named themselves; of folders only pictures are.
    Relative paths and names are kept, below the name of each folder where there are several inputs.
    Where a changed ending would give two inputs one name, the old ending goes into it:
    photo_gif.png beside photo.png. One file may go into a file of another name.

    Args:
        sources: a file, folder or pattern such as `*.jpg`, or several.
        output: a folder; or a file, for one.
        options: how results are made.

    Raises:
        UserError: nothing to translate, a place that cannot be written, or files in the way.
    """
    sources = [sources] if isinstance(sources, str | os.PathLike) else sources
    output = Path(output)
    try:
        return _plan(list(chain.from_iterable(map(_matching, sources))), output, options)
    except OSError as error:  # such as a name that is too long
        given = " ".join(map(str, sources))
        raise UserError(f"--input {given}, --output {output}: {error.strerror}") from error


def _matching(source):
    """Return what a pattern that no shell has replaced stands for; anything else as it is."""
    if not os.path.lexists(source) and any(sign in str(source) for sign in "*?["):
        return [Path(path) for path in sorted(glob(str(source), recursive=True))] or [Path(source)]
    return [Path(source)]


def folder_of(output) -> Path:
    """Return the folder that results go to: `output`, unless that is a picture's name."""
    output = Path(output)
    return output.parent if _is_picture(output) else output


def _is_picture(output):
    known = output.suffix.lower() in known_endings() or is_film(output)
    return known and not output.is_dir()


def _plan(sources, output, options):
    files, relative = _inputs(sources, output)
    named = list(_named(relative, options))
    films = [path for path in files if is_film(path)]
    if films:
        require_av()
        if options.cycle:
            raise UserError(f"--cycle: for pictures, not for films such as {shown(films[0])}")
    if _is_picture(output):
        _check_one(files, output, options)
        output, named = output.parent, [Path(output.name)]
    jobs = []
    for path, name in zip(files, named):
        cycle = None
        if options.cycle and not options.side_by_side:
            cycle = output / name.with_name(f"{name.stem}_cycle{name.suffix}")
        jobs.append(Job(path, output / name, cycle))
    targets = [target for job in jobs for target in job.targets]
    twice = [target for target, count in Counter(targets).items() if count > 1]
    if twice:
        raise UserError(
            f"{shown(twice[0])} would be both a result and a reconstruction; rename an input"
        )
    _check_free(jobs, options)
    check_writable(output)
    if options.page:
        check_page(output)
    return jobs


def _check_free(jobs, options):
    """Raise UserError if a result is there already, and is not to be skipped."""
    if options.skip_existing:
        return
    targets = [target for job in jobs for target in job.targets]
    existing = [target for target in targets if os.path.lexists(target)]
    if existing and len(jobs) == 1:
        raise UserError(
            f"--output: {shown(existing[0])} exists already; choose another, or leave it out with "
            f"--skip_existing: nothing is overwritten"
        )
    if existing:
        raise UserError(
            f"--output: {len(existing)} of its files exist already, such as {shown(existing[0])};\n"
            f"--skip_existing leaves them out; else choose an empty folder: nothing is overwritten"
        )


def _inputs(sources, output):
    """Return the files to translate, and their names among the results."""
    names: dict[Path, Path] = {}
    for source in sources:
        if source.is_dir():
            _check_apart(source, output)
            found = find_images(source)
            if not found:
                raise UserError(f"--input {source}: holds no image")
            above = Path(source.resolve().name) if len(sources) > 1 else Path()
            names.update((path, above / path.relative_to(source)) for path in found)
        elif source.is_file():
            names[source] = Path(source.name)
        else:
            raise UserError(f"--input {source}: no such file or folder")
    most, count = Counter(names.values()).most_common(1)[0]
    if count > 1:
        raise UserError(f"--input: {count} of them are called {shown(most)}; give one at a time")
    return list(names), list(names.values())


def _check_one(files, output, options):
    """Raise UserError unless one file is to go into the file `output`."""
    if len(files) > 1:
        raise UserError(
            f"--output {output}: give a folder, such as {output.parent}, for {len(files)} pictures"
        )
    ending = output.suffix.lower()
    if is_film(files[0]) or is_film(output):
        if ending != FILM or not is_film(files[0]):
            raise UserError(f"--output {output}: a film becomes an {FILM} file, a picture none")
        return
    kinds = {"jpg": (".jpg", ".jpeg"), "tif": (".tif", ".tiff")}
    if options.format and ending not in kinds.get(options.format, (f".{options.format}",)):
        raise UserError(f"--output {output}: its ending is not that of --format {options.format}")
    if ending not in WRITABLE:
        raise UserError(f"--output {output}: {ending} is not written; {' '.join(sorted(WRITABLE))}")


def _check_apart(source, output):
    inner, outer = output.resolve(), source.resolve()
    if inner == outer or outer in inner.parents:
        raise UserError(f"--output {output} is --input or lies in it; choose another folder")
    if inner in outer.parents:
        raise UserError(f"--input {source} lies in --output {output}; choose another folder")


def _named(names, options):
    """Yield the outputs' relative names, all different."""
    ending = f".{options.format}" if options.format else None

    def keeps(name):
        kinds = {FILM} if is_film(name) else {ending} if ending else WRITABLE
        return name.suffix.lower() in kinds

    taken = set(filter(keeps, names))
    for name in names:
        if keeps(name):
            yield name
            continue
        new = name.with_suffix(FILM if is_film(name) else ending or ".png")
        kind = name.suffix[1:]
        while new in taken:
            new = new.with_name(f"{new.stem}_{kind}{new.suffix}")
        taken.add(new)
        yield new


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
    result = Outcome()
    begun = time.monotonic()
    todo = []
    for job in jobs:
        if options.skip_existing and all(map(os.path.lexists, job.targets)):
            result.skipped.append(job.source)
        else:
            todo.append(job)
    progress = progress or _nobody
    films = [job for job in todo if is_film(job.source)]
    pictures = [job for job in todo if not is_film(job.source)]
    done = _translate_pictures(translator, back, pictures, options, result, progress, stop, album)
    for job in films:
        if not (stop and stop.caught):
            done += _translate_film(translator, job, options, result, progress, stop, album)
    result.unfinished = len(todo) - done
    result.seconds = time.monotonic() - begun
    return result


def _translate_film(translator, job, options, result, progress, stop, album):
    """Translate a film; return 1 if that came to an end, however, and 0 if it was stopped."""

    def watch(done, frames):
        progress(done, frames, "frame", shown(job.source.name))
        return bool(stop and stop.caught)

    try:
        film = translate_film(
            translator, job.source, job.target, options.batch_size, options.side_by_side,
            options.max_megapixels, watch,
        )  # fmt: skip
        if film.whole and album:
            original, translation = film.first
            notes = [f"{film.frames} frames", *film.notes]
            album.add(job.target, original, [translation], notes)
    except Exception as error:  # an engine has its own for too little memory
        result.failed.append((job.source, _reason(error)))
        return 1
    if not film.whole:
        return 0
    result.written.append(job.target)
    result.notes += [(job.source, note) for note in film.notes]
    return 1


def _translate_pictures(translator, back, jobs, options, result, progress, stop, album):
    """Translate pictures; return the number of those that came to an end, however."""
    if not jobs:
        return 0
    ranges = _ranges(translator, jobs, options)
    done = 0
    loaded = _read_ahead(translator, jobs, options, ranges)
    for batch in _batches(loaded, options.batch_size):
        within = _Within(progress, batch, done, len(jobs), 2 if back else 1, stop)
        try:
            _translate_batch(translator, back, batch, options, result, within, album)
        except _Stopped:
            break
        done += len(batch)
        progress(done, len(jobs), "image", within.name)
        if stop and stop.caught:
            break
    loaded.close()
    return done


def _ranges(translator, jobs, options):
    """Return what black and white are in inputs of more than 8 bits, and in their results.

    As the translator has it; else the same for all inputs, which are all looked at.
    """
    if translator.source:
        return translator.source, translator.target
    found = FolderRange(options.max_megapixels, translator.spec.in_channels)
    found.look([job.source for job in jobs], most=None)
    return found.settle("--input"), translator.target


def _read_ahead(translator, jobs, options, ranges) -> Generator:
    """Yield (job, (picture, pixels) or an error) of every job, decoded ahead."""

    def read(job):
        try:
            channels = translator.spec.in_channels
            limit = options.max_megapixels
            picture = twice(open_picture, job.source, channels, limit, *ranges)
            if options.bits == 8 and picture.depth:
                picture.depth = EIGHT_BITS
            return picture, translator.prepare(picture.image)
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


def _batches(items, size):
    """Yield consecutive items of one shape, at most `size` of them at a time."""
    for _, same in groupby(items, key=lambda item: _shape(item[1])):
        while batch := list(islice(same, size)):
            yield batch


def _shape(content):
    return () if isinstance(content, BaseException) else content[1].shape


def _nobody(*progress):
    """Tell nobody how far it is."""


class _Stopped(Exception):
    """The work is to end within a picture."""


class _Within:
    """Tells how much of a batch of large pictures is done, which each go from 0 to 1 in turn.

    Raises _Stopped where the work is to end: a large picture may take minutes more.
    """

    def __init__(self, progress, batch, before, total, rounds, stop):
        self.stop = stop
        self.progress, self.before, self.total = progress, before, total
        self.size, self.rounds = len(batch), rounds
        self.name = shown(batch[0][0].source.name)
        self.done, self.last = 0, 0.0
        progress(before, total, "image", self.name)

    def __call__(self, share: float) -> None:
        """Note the share of a translation, or of the way back, that is done, 0 to 1."""
        if self.stop and self.stop.caught:
            raise _Stopped
        if share < self.last:
            self.done += 1
        self.last = share
        done = min((self.done + share) / self.rounds, self.size - 0.01)
        self.progress(self.before + done, self.total, "image", self.name)


def _translate_batch(translator, back, batch, options, result, within, album):
    good = []
    for job, content in batch:
        if isinstance(content, BaseException):
            result.failed.append((job.source, _reason(content)))
        else:
            good.append((job, *content))
    if not good:
        return
    try:
        fakes = translator.pixels(np.stack([pixels for _, _, pixels in good]), within)
        recs = back.pixels(fakes, within) if back else [None] * len(good)
    except _Stopped:
        raise
    except Exception as error:  # every engine has its own
        if len(good) > 1:  # together they may be too large
            for job, picture, pixels in good:
                single = [(job, (picture, pixels))]
                _translate_batch(translator, back, single, options, result, within, album)
        else:
            result.failed.append((good[0][0].source, _reason(error)))
        return
    for (job, picture, _), fake, rec in zip(good, fakes, recs):
        try:
            _write(translator, job, picture, fake, rec, options, album)
        except (OSError, MemoryError) as error:
            result.failed.append((job.source, _reason(error)))
        else:
            result.written.append(job.target)
            result.notes += [(job.source, note) for note in picture.notes]


def _write(translator, job, picture, fake, rec, options, album):
    images = [translator.finish(pixels, picture) for pixels in (fake, rec) if pixels is not None]
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
    if album:
        before = picture.image
        if options.side_by_side:
            before = None
        elif isinstance(before, Image.Image):
            before = with_alpha(before, picture.alpha)
        album.add(job.target, before, images, picture.notes)


def _reason(error):
    if isinstance(error, FileNotFoundError):
        return "a link that leads nowhere"
    text = getattr(error, "strerror", None) or str(error)
    if isinstance(error, MemoryError):
        text = text or "out of memory"
    return (text.strip().splitlines() or [type(error).__name__])[0]
