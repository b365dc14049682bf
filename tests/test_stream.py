"""Pairing, augmentation, workers, MindRecord."""

import zlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from cyclegan_ms.config import DataConfig
from cyclegan_ms.data import domains
from cyclegan_ms.data.domains import FolderDomain
from cyclegan_ms.data.images import read_image, to_chw
from cyclegan_ms.data.prepare import write_mindrecord
from cyclegan_ms.data.splits import load_domains
from cyclegan_ms.data.stream import UnpairedStream, augment, create_dataset, epoch_steps, iterate
from cyclegan_ms.errors import UserError

pytestmark = pytest.mark.quick

SMALL = DataConfig(load_size=36, crop_size=32)


class Numbers:
    """A domain whose image i is the constant i / 100."""

    finished = True

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def load(self, index):
        return np.full((3, 32, 32), index / 100, np.float32)


def numbers(stream):
    return [tuple(round(float(x[0, 0, 0]) * 100) for x in stream[i]) for i in range(len(stream))]


def test_an_epoch_shows_all_of_the_larger_and_wraps_the_smaller():
    stream = UnpairedStream(Numbers(10), Numbers(4), SMALL, seed=1)
    pairs = numbers(stream)
    assert len(pairs) == 10
    assert sorted(a for a, _ in pairs) == list(range(10))
    order = [b for _, b in pairs]
    assert sorted(order[:4]) == [0, 1, 2, 3]
    assert order == (order[:4] * 3)[:10]


def test_domains_are_shuffled_independently_anew_each_epoch():
    stream = UnpairedStream(Numbers(50), Numbers(50), SMALL, seed=1, epochs=2)
    pairs = numbers(stream)
    orders = [[p[side] for p in pairs[50 * e : 50 * e + 50]] for e in (0, 1) for side in (0, 1)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4


def test_whole_batches_lose_no_image():
    config = DataConfig(load_size=36, crop_size=32, batch_size=4)
    a, b = Numbers(10), Numbers(7)
    assert epoch_steps(a, b, 4) == 3
    stream = UnpairedStream(a, b, config, seed=1)
    assert len(stream) == 12
    assert {p[0] for p in numbers(stream)} == set(range(10))


def test_stream_continues_where_another_ended(data_root):
    domains = load_domains(DataConfig(str(data_root)), "train")
    whole = UnpairedStream(*domains, SMALL, seed=5, epochs=3)
    rest = UnpairedStream(*domains, SMALL, seed=5, epochs=3, start=4)
    assert len(rest) == len(whole) - 4 == 5
    for i in range(len(rest)):
        assert np.array_equal(rest[i], whole[i + 4])


def test_workers_share_the_steps_of_a_larger_batch(data_root):
    domains = [FolderDomain(data_root / name) for name in ("trainA", "trainB")]

    def stream(batch_size, **place):
        config = DataConfig(load_size=36, crop_size=32, batch_size=batch_size)
        return list(iterate(UnpairedStream(*domains, config, seed=3, epochs=2, start=6, **place)))

    one = stream(6)
    shares = [stream(2, rank=rank, workers=3) for rank in range(3)]
    assert len(one) == 1 and [len(share) for share in shares] == [1, 1, 1]
    for column in ("real_a", "real_b"):
        joined = np.concatenate([share[0][column] for share in shares])
        assert np.array_equal(joined, one[0][column])


def test_augmentation(rng):
    """Every crop position and both mirrors occur; values are those of the image."""
    image = np.arange(36 * 36, dtype=np.float32).reshape(1, 36, 36)
    corners = set()
    for i in range(600):
        crop = augment(image, SMALL, np.random.default_rng(i))
        mirrored = crop[0, 0, 0] > crop[0, 0, 1]
        top, left = divmod(int(crop[0, 0, -1 if mirrored else 0]), 36)
        whole = image[:, top : top + 32, left : left + 32]
        assert np.array_equal(crop, whole[:, :, ::-1] if mirrored else whole)
        corners.add((top, left, bool(mirrored)))
    assert corners == {(t, x, m) for t in range(5) for x in range(5) for m in (True, False)}


def test_images_are_resized_to_a_square(data_root):
    image = read_image(data_root / "trainA" / "0.png")
    config = DataConfig(load_size=32, crop_size=32, flip=False)
    expected = to_chw(image.resize((32, 32), Image.Resampling.BICUBIC))
    assert np.array_equal(augment(image, config, np.random.default_rng(0)), expected)


def batches(data_root, workers):
    config = DataConfig(str(data_root), load_size=36, crop_size=32, batch_size=2, workers=workers)
    stream = UnpairedStream(*load_domains(config, "train"), config, seed=3, epochs=5)
    rows = create_dataset(stream).create_dict_iterator(num_epochs=1, output_numpy=True)
    return [(row["real_a"], row["real_b"]) for row in rows]


def test_the_number_of_workers_changes_nothing(data_root):
    one, many = batches(data_root, 1), batches(data_root, 8)
    assert len(one) == len(many) == 10
    assert one[0][0].shape == (2, 3, 32, 32)
    assert all(np.array_equal(x, y) for x, y in zip(one, many))


def test_mindrecord_of_the_tutorials_kind(data_root, tmp_path):
    path = tmp_path / "pairs.mindrecord"
    folder = replace(SMALL, root=str(data_root))
    assert write_mindrecord(folder, path, seed=9) == 3
    with pytest.raises(UserError, match="exists already"):
        write_mindrecord(folder, path)

    original = UnpairedStream(*load_domains(folder, "train"), folder, seed=9)
    config = DataConfig(str(path), load_size=32, crop_size=32, flip=False)
    a, b = load_domains(config, "train")
    assert len(a) == len(b) == 3
    assert all(np.array_equal(a.load(i), original[i][0]) for i in range(3))
    assert all(np.array_equal(b.load(i), original[i][1]) for i in range(3))
    # Unpaired training draws each column in an order of its own, and shows the rows as they are.
    stream = UnpairedStream(a, b, config, seed=0)
    assert {stream[i][0].tobytes() for i in range(3)} == {a.load(i).tobytes() for i in range(3)}


def test_a_mindrecord_file_is_read_in_the_order_of_the_stream(data_root, tmp_path, monkeypatch):
    """Rows come by MindSpore's reader, a part at a time; pairs are those read one by one."""
    folder = DataConfig(str(data_root), load_size=40, crop_size=40)
    write_mindrecord(folder, tmp_path / "m", seed=9)
    config = replace(folder, root=str(tmp_path / "m"), crop_size=32, batch_size=2)
    pair = load_domains(config, "train")
    monkeypatch.setattr("cyclegan_ms.data.stream.PART", 2)
    for paired, start, rank, workers in ((False, 0, 0, 1), (True, 2, 0, 1), (False, 4, 1, 2)):
        stream = UnpairedStream(
            *pair, config, seed=4, epochs=5, start=start, paired=paired, rank=rank, workers=workers
        )
        found = list(iterate(stream))
        assert len(found) == len(stream) // 2 >= 4
        for column, side in (("real_a", 0), ("real_b", 1)):
            expected = np.stack([stream[i][side] for i in range(len(stream))])
            assert np.array_equal(np.concatenate([batch[column] for batch in found]), expected)
    one_by_one = {stream.index(0, number) for number in range(stream.epoch_images)}
    assert one_by_one == {0, 1, 2}


def test_what_tells_a_mindrecord_file_from_others(data_root, tmp_path, monkeypatch):
    folder = replace(SMALL, root=str(data_root))
    write_mindrecord(folder, tmp_path / "m", seed=9)
    config = replace(SMALL, root=str(tmp_path / "m"), load_size=32)
    rows = load_domains(config, "train")[0]
    sums = [f"(3, 32, 32) {zlib.crc32(rows.load(i).tobytes())}" for i in range(3)]
    assert rows.names == sums
    assert load_domains(replace(config, max_images=2), "train")[0].names == sums[:2]
    monkeypatch.setattr(domains.MindRecordDomain, "NAMED", 2)
    assert load_domains(config, "train")[0].names == ["3 rows", sums[0], sums[2]]


def test_a_stream_in_parts_is_the_stream(data_root, monkeypatch):
    whole = batches(data_root, 2)
    config = DataConfig(str(data_root), load_size=36, crop_size=32, batch_size=2)
    stream = UnpairedStream(*load_domains(config, "train"), config, seed=3, epochs=5)
    monkeypatch.setattr("cyclegan_ms.data.stream.PART", 4)
    parts = list(iterate(stream))
    assert create_dataset(stream, 8, 4).get_dataset_size() == 2
    assert len(parts) == len(whole) == 10
    for part, (real_a, real_b) in zip(parts, whole):
        assert np.array_equal(part["real_a"], real_a) and np.array_equal(part["real_b"], real_b)


@pytest.mark.parametrize("size", [64, 48])
def test_mindrecord_of_another_size(data_root, tmp_path, size):
    path = tmp_path / "pairs.mindrecord"
    write_mindrecord(replace(SMALL, root=str(data_root)), path)
    config = DataConfig(str(path), load_size=size, crop_size=size)
    with pytest.raises(UserError, match=rf"\(3, 32, 32\).*data.crop_size {size}"):
        load_domains(config, "train")


def test_not_a_mindrecord(tmp_path):
    path = tmp_path / "x.mindrecord"
    path.write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(UserError, match="is not a MindRecord file"):
        load_domains(DataConfig(str(path)), "train")
