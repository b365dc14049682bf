"""What `infer` is asked for, checked before anything is loaded: inputs, and where results go."""

import os
from collections import Counter
from dataclasses import dataclass
from glob import glob
from itertools import chain
from pathlib import Path

from cyclegan_ms.data.formats import HEIC, find_images, known_endings
from cyclegan_ms.errors import UserError, nearest, or_beside
from cyclegan_ms.files import check_writable, shown
from cyclegan_ms.translate.films import FILM, is_film, require_av
from cyclegan_ms.translate.page import LONGEST_ENDING, check_page
from cyclegan_ms.translate.pictures import WRITABLE

__all__ = ["Job", "Options", "folder_of", "plan"]

_LONGEST_NAME = 255
"""bytes of a file's name: Linux's NAME_MAX"""


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
    """Return the folder that results go to: `output`, unless that is a picture's name.

    Raises:
        UserError: it is a folder to be made, and its name ends nearly as a picture's.
    """
    output = Path(output)
    if output.is_dir():
        return output
    ending = output.suffix.lower()
    if ending in known_endings() | HEIC or is_film(output):
        return output.parent
    if ending and (near := nearest(ending, sorted(WRITABLE))):
        raise UserError(
            f"--output {output}: did you mean {output.with_suffix(near)}? A new folder of that "
            f"name must be made first"
        )
    return output


def _plan(sources, output, options):
    files, relative = _inputs(sources, output)
    named = list(_named(relative, options))
    films = [path for path in files if is_film(path)]
    if films:
        require_av()
        if options.cycle:
            raise UserError(f"--cycle: for pictures, not for films such as {shown(films[0])}")
        if options.format and len(films) == len(files):
            raise UserError(f"--format: for pictures, a film becomes an {FILM} file")
    folder = folder_of(output)
    if folder != output:
        _check_one(files, output, options)
        named = [Path(output.name)]
    jobs = []
    for path, name in zip(files, named):
        cycle = None
        if options.cycle and not options.side_by_side:
            cycle = folder / name.with_name(f"{name.stem}_cycle{name.suffix}")
        jobs.append(Job(path, folder / name, cycle))
    targets = [target for job in jobs for target in job.targets]
    twice = [target for target, count in Counter(targets).items() if count > 1]
    if twice:
        raise UserError(
            f"{shown(twice[0])} would be both a result and a reconstruction; rename an input"
        )
    for job in jobs:
        _check_lengths(job, options)
    _check_free(jobs, options)
    check_writable(folder)
    if options.page:
        check_page(folder)
    return jobs


def _check_lengths(job, options):
    """Raise UserError if a name is longer than file systems take, such as a reconstruction's."""
    most = _LONGEST_NAME - (len(LONGEST_ENDING) if options.page else 0)
    for target in job.targets:
        if (length := len(os.fsencode(target.name))) > most:
            raise UserError(
                f"--input {shown(job.source)}: the name {target.name[:20]}... of its result would "
                f"have {length} bytes, {most} are the most{' with --page' * options.page}: rename "
                f"the input"
            )


def _check_free(jobs, options):
    """Raise UserError if a result is there already, and is not to be skipped."""
    if options.skip_existing:
        return
    targets = [target for job in jobs for target in job.targets]
    existing = [target for target in targets if os.path.lexists(target)]
    if existing and len(jobs) == 1:
        raise UserError(
            f"--output: {shown(existing[0])} exists already: choose another, nothing is overwritten"
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
            beside = {it.name: shown(it) for it in source.parent.glob("[!.]*")}
            advice = or_beside(source.name, beside)
            raise UserError(f"--input {source}: no such file or folder{advice}")
    most, count = Counter(names.values()).most_common(1)[0]
    if count > 1:
        raise UserError(f"--input: {count} of them are called {shown(most)}; give one at a time")
    return list(names), list(names.values())


def _check_one(files, output, options):
    """Raise UserError unless one file is to go into the file `output`."""
    if len(files) > 1:
        raise UserError(
            f"--output {output}: give a folder, such as {output.with_suffix('')}, for {len(files)} "
            f"pictures"
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
