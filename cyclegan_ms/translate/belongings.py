"""What a picture's file holds besides pixels: read it, and keep it in a file of any type."""

import struct
from dataclasses import dataclass, field
from typing import Any

from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from cyclegan_ms.data.arrays import ArrayFile

__all__ = [
    "GEO",
    "XMP",
    "Belongings",
    "array_belongings",
    "described",
    "read_belongings",
    "save_options",
]


@dataclass
class Belongings:
    """What belongs to a picture besides its pixels."""

    exif: bytes = b""
    """EXIF data without the rotation, which is applied"""
    icc_profile: bytes = b""
    xmp: bytes = b""
    dpi: tuple[float, float] | None = None
    """resolution, horizontal and vertical"""
    comment: bytes = b""
    """of a JPEG file"""
    iptc: bytes = b""
    """caption, author and more, of a JPEG file"""
    texts: dict[str, str] = field(default_factory=dict)
    """of a PNG file"""
    geo: dict[int, Any] = field(default_factory=dict)
    """what a TIFF file says of the place on earth, by tag"""
    compression: str = ""
    """of a TIFF file, in Pillow's words"""
    transparent: int | None = None
    """value of a deep PNG file's pixels that cannot be seen"""
    size: tuple[int, int] = (0, 0)
    """of the picture that all this was said of, upright"""


_KEPT = {
    ".jpg": {"exif", "icc_profile", "xmp", "dpi", "comment", "iptc"},
    ".png": {"exif", "icc_profile", "xmp", "dpi", "texts"},
    ".webp": {"exif", "icc_profile", "xmp"},
    ".bmp": {"dpi"},
    ".tif": {"exif", "icc_profile", "xmp", "dpi", "geo"},
}
"""What each type has a place for, as Pillow writes it."""

_WORDS = {
    "exif": "EXIF data",
    "icc_profile": "colour profile",
    "xmp": "XMP",
    "dpi": "resolution",
    "comment": "comment",
    "iptc": "IPTC data",
    "texts": "text",
    "geo": "geo tags",
}

# Tags of TIFF files that say something of the picture; others say how the file is laid out.
_DESCRIPTIVE = (270, 271, 272, 305, 306, 315, 33432)
_EXIF_IFD, _GPS_IFD, _ORIENTATION = 0x8769, 0x8825, 0x0112
XMP = 700
"""Its tag in a TIFF file."""
# Scale, tie points, transformation, GeoTIFF's keys and their parameters, GDAL's description.
GEO = {33550: 12, 33922: 12, 34264: 12, 34735: 3, 34736: 12, 34737: 2, 42112: 2}
"""Their types in a TIFF file: 12 doubles, 3 short integers, 2 text."""
_COMPRESSIONS = ("raw", "packbits", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "jpeg")
_LONGEST = 65533
"""Bytes that a block of a JPEG file can hold."""
_HEADS = {"exif": 0, "xmp": 29, "comment": 0, "iptc": 27}
"""Bytes that stand around each in its block: names, a length, an even number of bytes."""
_IPTC = 0x0404
"""Its number among Photoshop's resources, which the block of IPTC data is made of."""


def read_belongings(file: Image.Image) -> tuple[Image.Image, Belongings, list[str]]:
    """Read what belongs to an opened and decoded picture.

    Returns the picture upright, its belongings, and notes on what is left out, in words.
    """
    found, notes, upright = Belongings(), [], file
    try:
        found.exif = _exif(file)
        upright = ImageOps.exif_transpose(file)
        if not found.exif and len(file.info.get("exif") or b"") > 6 and not len(file.getexif()):
            notes.append("its EXIF data is damaged and left out")
    except Exception:  # whatever stands in it
        notes.append("its EXIF data is damaged and left out")
    info = upright.info
    found.size = upright.size
    found.icc_profile = info.get("icc_profile") or b""
    found.xmp = _bytes(info.get("xmp") or info.get("XML:com.adobe.xmp"))
    found.comment = _bytes(info.get("comment"))
    texts = getattr(file, "text", {}) if file.format == "PNG" else {}
    found.texts = {k: str(v) for k, v in texts.items() if not k.startswith(("XML:", "Raw profile"))}
    if file.mode.startswith("I") and isinstance(info.get("transparency"), int):
        found.transparent = info["transparency"]
    dpi = info.get("dpi")
    if isinstance(dpi, tuple) and len(dpi) == 2 and all(0 < float(v) < 1e6 for v in dpi):
        turned = upright.size != file.size
        across, down = dpi[::-1] if turned else dpi
        found.dpi = (float(across), float(down))
    if file.format == "TIFF":
        tags = getattr(file, "tag_v2", {})
        found.geo = {tag: tags[tag] for tag in GEO if tag in tags}
        found.compression = info.get("compression", "raw")
        if found.geo and upright is not file and upright.size != file.size:
            found.geo = {}
            notes.append("its geo tags are left out: they are for the picture before it was turned")
    resources = info.get("photoshop")
    found.iptc = _bytes(resources.get(_IPTC)) if isinstance(resources, dict) else b""
    return upright, found, notes


def array_belongings(file: ArrayFile) -> tuple[Belongings, list[str]]:
    """Read what belongs to a picture that Pillow has no image for, as `read_belongings` does."""
    tags, notes = file.tags, []
    found = Belongings(size=(file.width, file.height), compression=file.compression)
    found.xmp = _bytes(tags.get(XMP))
    found.icc_profile = _bytes(tags.get(34675))
    turn = tags.get(_ORIENTATION, 1)
    found.dpi = _dpi(tags, turned=turn > 4)
    kept = Image.Exif()
    for tag in _DESCRIPTIVE:
        if isinstance(tags.get(tag), str) and not str(tags[tag]).startswith('{"shape": '):
            kept[tag] = tags[tag]  # that one is tifffile's own
    found.exif = kept.tobytes() if len(kept) else b""
    if {_EXIF_IFD, _GPS_IFD} & set(tags):
        notes.append("its EXIF data is left out")
    found.geo = {tag: tags[tag] for tag in GEO if tag in tags}
    if found.geo and turn != 1:
        found.geo = {}
        notes.append("its geo tags are left out: they are for the picture before it was turned")
    return found, notes


def _dpi(tags, turned):
    """Return the resolution that a TIFF file's tags tell, in dots per inch."""
    unit = {2: 1.0, 3: 2.54}.get(int(tags.get(296, 2)))
    across, down = (tags.get(tag, (0, 1)) for tag in ((283, 282) if turned else (282, 283)))
    if unit is None or not (across[0] and across[1] and down[0] and down[1]):
        return None
    return (unit * across[0] / across[1], unit * down[0] / down[1])


def described(exif: bytes) -> tuple[dict[int, Any], bool]:
    """Return the tags of EXIF data that say something of the picture, and whether it has more."""
    tags = Image.Exif()
    tags.load(exif)
    return {tag: tags[tag] for tag in _DESCRIPTIVE if tag in tags}, bool(
        {_EXIF_IFD, _GPS_IFD} & set(tags)
    )


def _bytes(value):
    if isinstance(value, str):
        return value.encode()
    return value if isinstance(value, bytes) else b""  # a number is none, nor so many zeros


def _exif(file):
    """Return EXIF as bytes, without the rotation, which is applied; empty if there is none."""
    exif = file.getexif()
    if file.format == "TIFF":
        kept = Image.Exif()
        for tag in _DESCRIPTIVE:
            if tag in exif:
                kept[tag] = exif[tag]
        for block in (_EXIF_IFD, _GPS_IFD):
            if values := exif.get_ifd(block):
                kept.get_ifd(block).update(values)
                kept[block] = dict(values)
        exif = kept
    else:
        exif.get_ifd(_EXIF_IFD)  # read now: what is never looked at may get lost
    rotation = exif.pop(_ORIENTATION, None)
    data = exif.tobytes() if len(exif) else b""
    if rotation is not None and file.format != "TIFF":
        exif[_ORIENTATION] = rotation  # for `exif_transpose`
    return data


def save_options(
    belongings: Belongings, kind: str, image: Image.Image
) -> tuple[dict[str, Any], list[str]]:
    """Return Pillow's options that keep belongings in a file, and notes on what is left out.

    Args:
        belongings: what to keep.
        kind: ending of the file, of `WRITABLE`.
        image: the image that will be written.
    """
    kind = {".jpeg": ".jpg", ".tiff": ".tif"}.get(kind, kind)
    values = {key: getattr(belongings, key) for key in _WORDS if getattr(belongings, key)}
    lost = dict.fromkeys(values.keys() - _KEPT[kind], f"{kind[1:]} files have no place for that")
    space = b"GRAY" if len(image.getbands()) < 3 else b"RGB "
    if belongings.icc_profile and belongings.icc_profile[16:20] != space:
        lost["icc_profile"] = "it is for another colour space"
    if belongings.geo and image.size != belongings.size:
        lost.setdefault("geo", "they are for another size")
    if kind == ".jpg":
        for key, head in _HEADS.items():
            if len(getattr(belongings, key)) + head > _LONGEST:
                lost[key] = "it is too long for a JPEG file"
    notes = [
        f"its {_WORDS[key]} {'are' if key == 'geo' else 'is'} left out: {why}"
        for key, why in lost.items()
    ]
    kept = {key: value for key, value in values.items() if key not in lost}
    if kind == ".jpg":
        return _jpeg(kept), notes
    if kind == ".png":
        return _png(kept), notes
    if kind == ".tif":
        options, more = _tiff(kept, belongings.compression)
        return options, notes + more
    return kept, notes


def _jpeg(kept):
    if iptc := kept.pop("iptc", b""):
        # Pillow has no option for it, but writes blocks that it is given (its MPO files need that).
        resource = (
            struct.pack(">4sHHI", b"8BIM", _IPTC, 0, len(iptc)) + iptc + b"\0" * (len(iptc) % 2)
        )
        block = b"Photoshop 3.0\0" + resource
        kept["extra"] = struct.pack(">HH", 0xFFED, 2 + len(block)) + block
    return kept


def _png(kept):
    chunks = PngInfo()
    for key, text in kept.pop("texts", {}).items():
        chunks.add_itxt(key, text)
    if xmp := kept.pop("xmp", b""):
        chunks.add_itxt("XML:com.adobe.xmp", xmp.decode(errors="replace"))
    return {**kept, "pnginfo": chunks}


def _tiff(kept, compression):
    notes = []
    tags = Image.Exif()
    tags.load(kept.get("exif", b""))
    if "xmp" in kept:
        tags[XMP] = kept["xmp"]
    for tag, value in kept.get("geo", {}).items():
        tags[tag] = value
    options = {key: kept[key] for key in ("dpi", "icc_profile") if key in kept}
    if compression and compression not in _COMPRESSIONS:
        notes.append(f"compressed with deflate, not {compression}")
        compression = "tiff_adobe_deflate"
    options["compression"] = compression or "raw"
    if _EXIF_IFD in tags or _GPS_IFD in tags:
        # Pillow writes such blocks into files without compression only.
        if options["compression"] != "raw":
            notes.append("written without compression, so as to keep its EXIF data")
        return options | {"exif": tags, "compression": "raw"}, notes
    directory = ImageFileDirectory_v2()
    directory.tagtype.update({tag: kind for tag, kind in GEO.items() if tag in tags})
    for tag, value in tags.items():
        directory[tag] = value
    return options | {"tiffinfo": directory}, notes
