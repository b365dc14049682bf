"""The generators that the authors of CycleGAN publish, downloaded and converted."""

from dataclasses import dataclass
from pathlib import Path

from cyclegan_ms.download import AUTHORS, Download, download, note_source
from cyclegan_ms.errors import UserError
from cyclegan_ms.files import GENERATOR_FILES, hold_file
from cyclegan_ms.model.spec import GeneratorSpec
from cyclegan_ms.weights.checkpoint import save_generator
from cyclegan_ms.weights.convert import import_generator

__all__ = ["GENERATORS", "Published", "fetch_generator"]


@dataclass(frozen=True)
class Published:
    """A generator that can be downloaded."""

    data_set: str
    """what it was trained on: generators of one data set belong together"""
    domains: tuple[str, str]
    direction: str
    file: Download


def _published(name, data_set, domains, direction):
    # Nine blocks and width 64 in 32-bit floats; no checksum is published.
    file = Download(f"{AUTHORS}/pretrained_models/{name}.pth", size=45_600_000)
    return Published(data_set, domains, direction, file)


GENERATORS = {
    name: _published(name, data_set, domains, direction)
    for data_set, domains, ways in (
        ("apple2orange", ("apple", "orange"), ("apple2orange", "orange2apple")),
        ("horse2zebra", ("horse", "zebra"), ("horse2zebra", "zebra2horse")),
        ("summer2winter_yosemite", ("summer", "winter"),
         ("summer2winter_yosemite", "winter2summer_yosemite")),
        ("monet2photo", ("monet", "photo"), ("monet2photo", "style_monet")),
        ("cezanne2photo", ("cezanne", "photo"), (None, "style_cezanne")),
        ("ukiyoe2photo", ("ukiyoe", "photo"), (None, "style_ukiyoe")),
        ("vangogh2photo", ("vangogh", "photo"), (None, "style_vangogh")),
        ("maps", ("sat", "map"), ("sat2map", "map2sat")),
        ("cityscapes", ("photo", "label"), ("cityscapes_photo2label", "cityscapes_label2photo")),
        ("facades", ("photo", "label"), ("facades_photo2label", "facades_label2photo")),
        ("iphone2dslr_flower", ("iphone", "dslr"), ("iphone2dslr_flower", None)),
    )
    for direction, name in zip(GENERATOR_FILES, ways)
    if name
}  # fmt: skip
"""By the authors' names: those of their script download_cyclegan_model.sh."""


def fetch_generator(published: Published, folder, progress: bool = False) -> GeneratorSpec:
    """Download a generator and convert it to g_ab.ckpt or g_ba.ckpt; return its description.

    Args:
        published: one of `GENERATORS`.
        folder: where to put it; made if need be.
        progress: whether to show a progress bar.

    Raises:
        UserError: as `download`; or the file is there already, or holds no generator.
    """
    path = Path(folder, GENERATOR_FILES[published.direction])
    with hold_file(path):
        if path.exists():
            raise UserError(f"{path} exists already; nothing is overwritten")
        original = path.with_name(f".{published.direction}.download.pth")
        download(published.file, original, progress, unpacked=1)
        try:
            imported = import_generator(original, published.direction, published.domains)
        except UserError as error:  # such as the page of a hotel's network
            original.unlink()
            raise UserError(
                f"{published.file.url}: what came is no generator; removed, try again\n({error})"
            ) from error
        save_generator(imported.generator, imported.spec, path)
        note_source(published.file, original, folder)
        original.unlink()
    return imported.spec
