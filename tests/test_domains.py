"""The images of a domain: folders, broken files, limits, the shipped sample."""

import json
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from helpers import photograph

from cyclegan_ms.config import Config, DataConfig
from cyclegan_ms.data import domains, images
from cyclegan_ms.data.broken import load_readable
from cyclegan_ms.data.domains import FolderDomain
from cyclegan_ms.data.formats import open_image
from cyclegan_ms.data.prepare import write_mindrecord
from cyclegan_ms.data.splits import load_domains, load_sample_tests
from cyclegan_ms.data.squares import sample_images
from cyclegan_ms.data.stream import UnpairedStream, iterate
from cyclegan_ms.errors import UserError
from cyclegan_ms.training.resume import fingerprint
from cyclegan_ms.translate.pictures import open_picture

pytestmark = pytest.mark.quick

SMALL = DataConfig(load_size=36, crop_size=32)


def test_domains_decode_what_training_and_evaluation_need(data_root, rng):
    for name in ("trainA", "testA"):
        photograph(rng, 800, 600).save(data_root / name / "0.jpg")
    config = DataConfig(str(data_root), load_size=72, crop_size=32)
    for split in ("train", "test"):
        domain = load_domains(config, split)[0]
        assert domain.where(0).name == "0.jpg" and domain.load(0).size == (200, 150)
    assert FolderDomain(data_root / "trainA").load(0).size == (800, 600)
    assert open_picture(data_root / "trainA" / "0.jpg").image.size == (800, 600)


def test_missing_and_empty_folders(tmp_path):
    config = DataConfig(str(tmp_path / "data"))
    with pytest.raises(UserError, match="data does not exist; expected trainA, trainB"):
        load_domains(config, "train")
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match="trainA: no such folder; expected trainA, trainB"):
        load_domains(config, "train")
    (tmp_path / "data" / "trainA").mkdir()
    with pytest.raises(UserError, match="trainA: holds no image"):
        load_domains(config, "train")


def test_unreadable_files_are_skipped_with_one_warning_each(data_root, caplog):
    folder = data_root / "trainA"
    (folder / "00_text.jpg").write_text("this is no image")
    whole = (folder / "0.png").read_bytes()
    (folder / "01_cut.png").write_bytes(whole[: len(whole) // 2])
    domain, broken = FolderDomain(folder), {}
    assert len(domain) == 5 and not domain.left_out and not caplog.records
    assert [domain.where(i).name for i in (1, 2)] == ["00_text.jpg", "01_cut.png"]
    for _ in range(3):
        instead = load_readable(domain, 1, broken)
        assert np.array_equal(np.asarray(instead), np.asarray(domain.load(3)))
    assert broken == {1: 0, 2: 0}
    with pytest.raises(OSError, match="truncated"):
        domain.load(2)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    text_file, cut_file = (record.getMessage() for record in caplog.records)
    assert text_file == f"skipped {folder / '00_text.jpg'}: not an image, or damaged"
    assert cut_file.startswith(f"skipped {folder / '01_cut.png'}: ")


def test_a_domain_without_a_readable_image_stops_with_its_name(data_root):
    domains = load_domains(DataConfig(str(data_root)), "train")
    for path in domains[1].paths:
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="trainB: none of its images can be decoded"):
        list(iterate(UnpairedStream(*domains, SMALL)))


def test_names_that_are_not_utf8(data_root):
    source = data_root / "trainA" / "0.png"
    Path(os.fsdecode(os.fsencode(str(data_root / "trainA")) + b"/Pf\xe4lzer.png")).write_bytes(
        source.read_bytes()
    )
    assert len(fingerprint(*load_domains(DataConfig(str(data_root)), "train"))) == 16


class Moody(FolderDomain):
    """A domain on a disk that fails as often as `faults` says, by image."""

    faults: ClassVar[dict[int, int]] = {}

    def load(self, index):
        if self.faults.get(index):
            self.faults[index] -= 1
            raise OSError(5, "Input/output error")
        return super().load(index)


def test_a_disk_may_stumble_once(data_root, monkeypatch, caplog):
    domain, broken = Moody(data_root / "trainA"), {}
    monkeypatch.setattr(Moody, "faults", {0: 1})
    assert load_readable(domain, 0, broken).tobytes() == domain.load(0).tobytes()
    assert not broken and not caplog.records
    monkeypatch.setattr(Moody, "faults", {0: 2})
    instead = load_readable(domain, 0, broken, number=7)
    assert instead.tobytes() == domain.load(1).tobytes()
    assert broken == {0: 7} and len(caplog.records) == 1
    # Pairs before the seventh had the image, whatever order threads ask in.
    assert load_readable(domain, 0, broken, number=6).tobytes() == domain.load(0).tobytes()

    faults = [OSError(5, "Input/output error")]

    def moody_open(path, *bands):
        if faults:
            raise faults.pop()
        return open_image(path)

    monkeypatch.setattr(domains, "open_image", moody_open)
    assert len(FolderDomain(data_root / "trainA")) == 3 and not faults


def test_a_stream_remembers_what_is_broken(data_root, monkeypatch):
    """A disk that recovers between two processes changes nothing."""
    pair = (Moody(data_root / "trainA"), FolderDomain(data_root / "trainB"))
    monkeypatch.setattr(Moody, "faults", {2: 2})
    straight = UnpairedStream(*pair, SMALL, epochs=3)
    all_pairs = [straight[i] for i in range(len(straight))]
    ((index, found),), _ = straight.state()
    assert index == 2 and 0 <= found < 3

    monkeypatch.setattr(Moody, "faults", {2: 2})
    before = UnpairedStream(*pair, SMALL, epochs=3)
    for i in range(4):
        before[i]
    after = UnpairedStream(*pair, SMALL, epochs=3, start=4)
    after.restore(json.loads(json.dumps(before.state())))
    for got, expected in zip((after[i] for i in range(len(after))), all_pairs[4:]):
        assert all(map(np.array_equal, got, expected))
    forgetful = UnpairedStream(*pair, SMALL, epochs=3, start=4)
    assert not all(
        np.array_equal(forgetful[i][0], all_pairs[4 + i][0]) for i in range(len(forgetful))
    )


def test_opening_reads_names_and_sizes_only(data_root, monkeypatch, caplog):
    """Neither images nor what pretends to be one; an empty file shows by its size."""
    folder = data_root / "trainB"
    for index in range(300):
        (folder / f"x{index:03d}.jpg").write_text("no image")
        (folder / f"y{index:03d}.png").write_text("no image")
    (folder / "empty.jpg").touch()
    opened = []

    def noting(path, *bands):
        opened.append(path.name)
        return open_image(path)

    for module in (domains, images):
        monkeypatch.setattr(module, "open_image", noting)
    domain = FolderDomain(folder)
    assert len(domain) == 602 and domain.names[-1] == "y299.png 8"
    # One to see that there is an image, and of PNG files some, for they may have 16 bits.
    assert opened[0] == "0.png" and len(opened) == 1 + -(-302 // 2)
    assert all(name.endswith(".png") for name in opened)
    assert [path.name for path in domain.left_out] == ["empty.jpg"]
    assert caplog.messages == [f"skipped {folder / 'empty.jpg'}: an empty file"]
    for path in domain.paths[:2]:
        path.unlink()
    with pytest.raises(UserError, match="trainB: holds no image that can be read"):
        FolderDomain(folder)


def test_a_mindrecord_file_is_read_once(data_root, tmp_path):
    write_mindrecord(DataConfig(str(data_root), load_size=32, crop_size=32), tmp_path / "m")
    config = Config(data=DataConfig(str(tmp_path / "m"), load_size=32, crop_size=32))
    trains = load_domains(config.data, "train")
    assert load_sample_tests(config, trains) is trains


def test_samples_are_never_the_same_image_twice(data_root):
    """In place of a broken one comes the next that is not shown yet; with none, there are fewer."""
    domain = FolderDomain(data_root / "trainA")
    config = replace(SMALL, load_size=32)
    whole = sample_images(domain, config, 3)
    assert len(whole) == len(domain) == 3
    domain.paths[2].write_text("no image")
    assert np.array_equal(sample_images(domain, config, 3), whole[:2])
    assert np.array_equal(sample_images(domain, config, 2), whole[:2])


def test_nothing_left_to_decode(data_root):
    domain = FolderDomain(data_root / "testA")
    path = domain.paths[0]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="none of its images can be decoded"):
        load_readable(domain, 0, {})


def test_max_images(data_root):
    a, b = load_domains(DataConfig(str(data_root), max_images=2), "train")
    assert (len(a), len(b)) == (2, 2)


def test_shipped_sample():
    folder = Path(__file__).parents[1] / "data" / "sample"
    files = [p for p in folder.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) < 1_000_000
    a, b = load_domains(DataConfig(str(folder)), "train")
    means = []
    for domain in (a, b):
        pixels = np.stack([np.asarray(domain.load(i), float) for i in range(20)]).reshape(-1, 3)
        colourful = pixels.max(1) - pixels.min(1) > 90  # the fruit, not table and wall
        means.append(pixels[colourful].mean(0))
    # Oranges have hardly any blue; apples as much of it as of green.
    assert means[1][2] / means[1][1] < 0.3 < 0.5 < means[0][2] / means[0][1]
