"""Downloads and archives, against a server on this machine."""

import hashlib
import io
import shutil
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_reference import Generator

from cyclegan_ms import cli
from cyclegan_ms.data.prepare import DATA_SETS, DataSet, prepare_data_set, unpack
from cyclegan_ms.download import Download, download
from cyclegan_ms.errors import UserError
from cyclegan_ms.files import hold_file
from cyclegan_ms.translate import Translator
from cyclegan_ms.weights.published import GENERATORS, fetch_generator

pytestmark = pytest.mark.quick


class Server(ThreadingHTTPServer):
    """Serves one body; can break off the first answers, or ignore ranges."""

    body = b""
    break_after = None
    ranges = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []
        self.url = f"http://127.0.0.1:{self.server_port}/apple2orange.zip"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.asked.append(asked)
        if self.path != "/apple2orange.zip":
            self.send_error(404)
            return
        start = int(asked[len("bytes=") : -1]) if asked and server.ranges else 0
        if start >= len(server.body) > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = server.body[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.break_after is not None:
            body, server.break_after = body[: server.break_after], None
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def archive(entries):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        for name, content in entries.items():
            packed.writestr(name, content)
    return file.getvalue()


@pytest.fixture
def fruit():
    picture = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(picture, "PNG")
    splits = ("trainA", "trainB", "testA", "testB")
    return archive({f"apple2orange/{split}/1.png": picture.getvalue() for split in splits})


def digest(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def published(server, checksum=True):
    return Download(server.url, digest(server.body) if checksum else None, len(server.body))


def test_download_and_unpack(server, fruit, tmp_path):
    server.body = fruit
    data_set = DataSet(("apple", "orange"), published(server))
    root = prepare_data_set(data_set, tmp_path / "data" / "fruit")
    assert root == tmp_path / "data" / "fruit"
    found = {str(p.relative_to(root)) for p in root.rglob("*.png")}
    assert found == {f"{split}/1.png" for split in ("trainA", "trainB", "testA", "testB")}
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["fruit"]
    noted = (root / "SOURCES.txt").read_text()
    assert noted.endswith(f"{server.url}  {len(fruit)} bytes  {digest(fruit)} (as published)\n")
    with pytest.raises(UserError, match="exists already"):
        prepare_data_set(data_set, root)


def test_the_tutorials_archive_gives_its_mindrecord_file(server, tmp_path):
    name = "apple2orange_train.mindrecord"
    server.body = archive({f"CycleGAN_apple2orange/{n}": b"x" for n in (name, f"{name}.db")})
    data_set = DataSet(("apple", "orange"), published(server, checksum=False), name)
    root = prepare_data_set(data_set, tmp_path / "data")
    assert root == tmp_path / "data" / name
    assert root.is_file() and root.with_name(f"{name}.db").is_file()
    noted = (tmp_path / "data" / "SOURCES.txt").read_text()
    assert f"{digest(server.body)} (none is published to compare with)" in noted


def test_more_is_kept_than_there_is(server, tmp_path):
    """The server has a shorter file by now: what was kept is not a part of it."""
    server.body = b"new"
    (tmp_path / "x.zip.part").write_bytes(b"old and long")
    with pytest.raises(UserError, match="of another file, and removed"):
        download(Download(server.url), tmp_path / "x.zip")
    download(Download(server.url), tmp_path / "x.zip")
    assert (tmp_path / "x.zip").read_bytes() == b"new"


def test_an_interrupted_download_continues(server, tmp_path):
    server.body = np.random.default_rng(0).bytes(300_000)
    server.break_after = 2 << 16  # whole chunks of the client's
    target = tmp_path / "x.zip"
    with pytest.raises(UserError, match=r"0.1 MB are kept; run the same command to continue"):
        download(published(server), target)
    assert not target.exists()
    assert (tmp_path / "x.zip.part").stat().st_size == 2 << 16
    download(published(server), target)
    assert server.asked == [None, f"bytes={2 << 16}-"]
    assert target.read_bytes() == server.body
    assert [p.name for p in tmp_path.iterdir()] == ["x.zip"]


def test_a_server_without_ranges_starts_again(server, tmp_path):
    server.body, server.ranges = b"0123456789" * 1000, False
    (tmp_path / "x.zip.part").write_bytes(b"something old")
    download(published(server), tmp_path / "x.zip")
    assert (tmp_path / "x.zip").read_bytes() == server.body


def test_a_complete_part_is_taken(server, tmp_path):
    server.body = b"0123456789" * 1000
    (tmp_path / "x.zip.part").write_bytes(server.body)
    download(published(server), tmp_path / "x.zip")
    assert (tmp_path / "x.zip").read_bytes() == server.body


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_a_wrong_checksum_removes_the_file(kind, server, tmp_path):
    server.body = b"something else"
    right, wrong = (hashlib.new(kind, it).hexdigest() for it in (server.body, b"published"))
    with pytest.raises(UserError, match=f"checksum {kind}:"):
        download(Download(server.url, f"{kind}:{wrong}"), tmp_path / "x.zip")
    assert not list(tmp_path.iterdir())
    download(Download(server.url, f"{kind}:{right}"), tmp_path / "x.zip")
    assert (tmp_path / "x.zip").read_bytes() == server.body


def test_gone_and_unreachable(server, tmp_path):
    gone = Download(server.url.replace("apple", "pear"))
    with pytest.raises(UserError, match=r"pear2orange.zip is not there any more .*404\)$") as error:
        download(gone, tmp_path / "x.zip")
    assert "\n" not in str(error.value)
    unreachable = Download("http://127.0.0.1:9/x.zip")
    with pytest.raises(UserError, match=r"127.0.0.1:9 cannot be reached; is .* network\?$"):
        download(unreachable, tmp_path / "x.zip")


def test_no_room_on_the_disk(server, tmp_path):
    """Said before anything is fetched; what is there already counts, and what is unpacked too."""
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(UserError, match=r"this needs .* GB, .* are free"):
        download(Download(server.url, size=2 * free), tmp_path / "new" / "x.zip")
    with pytest.raises(UserError, match="this needs"):
        download(Download(server.url, size=free // 2), tmp_path / "new" / "x.zip", unpacked=2)
    assert not server.asked and not list(tmp_path.iterdir())


def test_every_data_set_of_the_authors():
    """Those of the paper's appendix and of the authors' list, but for Cityscapes."""
    assert set(DATA_SETS) == {
        "ae_photos", "apple2orange", "cezanne2photo", "facades", "horse2zebra",
        "iphone2dslr_flower", "maps", "monet2photo", "summer2winter_yosemite", "ukiyoe2photo",
        "vangogh2photo",
    }  # fmt: skip
    for name, data_set in DATA_SETS.items():
        kind, digits = data_set.archive.checksum.split(":")
        assert len(bytes.fromhex(digits)) == hashlib.new(kind).digest_size
        assert data_set.archive.url.endswith(f"/datasets/{name}.zip")


def test_published_generators_go_both_ways():
    """A name X2Y goes from X to Y, a style from photographs to it."""
    assert len(GENERATORS) == 18
    for name, published in GENERATORS.items():
        a, b = published.domains
        source, target = (a, b) if published.direction == "a2b" else (b, a)
        words = name.removesuffix("_yosemite").removesuffix("_flower").split("_")[-1]
        assert words == (target if name.startswith("style") else f"{source}2{target}"), name


@pytest.fixture
def weights():
    """A generator as the authors saved it, with the running statistics of older versions."""
    torch.manual_seed(0)
    generator = Generator(w=4, blocks=1)
    state = generator.state_dict()
    for name in [it for it in state if it.endswith("1.weight")]:
        state[name.replace("1.weight", "2.running_mean")] = torch.zeros(4)
    file = io.BytesIO()
    torch.save(state, file)
    return generator, file.getvalue()


def test_weights_are_fetched_and_translate(server, weights, tmp_path, capsys, monkeypatch):
    generator, server.body = weights
    horses = replace(GENERATORS["horse2zebra"], file=published(server))
    zebras = replace(GENERATORS["zebra2horse"], file=published(server))
    monkeypatch.setitem(GENERATORS, "horse2zebra", horses)
    monkeypatch.setitem(GENERATORS, "zebra2horse", zebras)
    monkeypatch.chdir(tmp_path)
    assert cli.prepare_data(["--weights", "horse2zebra"]) == 0
    out = capsys.readouterr().out
    assert "--checkpoint data/weights/horse2zebra --direction horse2zebra" in out
    folder = tmp_path / "data/weights/horse2zebra"
    assert {p.name for p in folder.iterdir()} == {"SOURCES.txt", "g_ab.ckpt"}
    alone = Translator(folder)
    assert (alone.spec.name, alone.spec.width) == ("horse2zebra", 4)
    pixels = np.random.default_rng(0).uniform(-1, 1, (1, 3, 32, 32)).astype(np.float32)
    expected = generator(torch.from_numpy(pixels)).detach().numpy()
    assert alone.pixels(pixels) == pytest.approx(expected, abs=1e-4)

    assert cli.prepare_data(["--weights", "zebra2horse"]) == 0
    assert Translator(folder, "zebra2horse").spec.direction == "b2a"
    with pytest.raises(UserError, match="--direction can be a2b, horse2zebra, b2a, zebra2horse"):
        Translator(folder)
    with pytest.raises(UserError, match="exists already"):
        fetch_generator(horses, folder)


def test_what_is_no_generator_is_not_kept(server, tmp_path):
    """Such as the page of a network that wants a password first."""
    server.body = b"<html>please log in</html>"
    horses = replace(GENERATORS["horse2zebra"], file=Download(server.url))
    with pytest.raises(UserError, match="what came is no generator; removed, try again"):
        fetch_generator(horses, tmp_path / "w")
    assert not (tmp_path / "w").exists() or list((tmp_path / "w").iterdir()) == []


def test_a_place_has_one_owner(server, fruit, tmp_path):
    server.body = fruit
    data_set = DataSet(("apple", "orange"), published(server))
    with hold_file(tmp_path / "fruit"), pytest.raises(UserError, match="in use by process"):
        prepare_data_set(data_set, tmp_path / "fruit")
    assert server.asked == []


def test_mistakes_with_weights(capsys):
    assert cli.prepare_data(["--weights", "cat2dog"]) == 2
    assert "--weights cat2dog: not published; it can be apple2orange," in capsys.readouterr().err
    assert cli.prepare_data(["--weights", "horse2zebra", "sat2map", "--output", "x"]) == 2
    assert "weights of one data set" in capsys.readouterr().err
    assert cli.prepare_data(["--name", "maps", "--source", "tutorial"]) == 2
    assert "--source tutorial is for --name apple2orange" in capsys.readouterr().err
    assert cli.prepare_data(["--weights", "list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 18


@pytest.mark.parametrize("name", ["../outside.txt", "/absolute.txt", "a/../../outside.txt"])
def test_entries_that_point_outside(name, tmp_path):
    (tmp_path / "x.zip").write_bytes(archive({"a/trainA/1.png": b"x", name: b"evil"}))
    with pytest.raises(UserError, match="unsafe"):
        unpack(tmp_path / "x.zip", tmp_path / "out", "trainA")
    assert [p.name for p in tmp_path.iterdir()] == ["x.zip"]


def test_links_are_refused(tmp_path):
    link = zipfile.ZipInfo("trainA/link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        packed.writestr(link, "/etc/passwd")
    with pytest.raises(UserError, match="unsafe"):
        unpack(tmp_path / "x.zip", tmp_path / "out", "trainA")


def test_damaged_too_large_or_another_archive(tmp_path, fruit):
    path = tmp_path / "x.zip"
    path.write_bytes(fruit[: len(fruit) // 2])
    with pytest.raises(UserError, match="damaged"):
        unpack(path, tmp_path / "out", "trainA")
    flipped = bytearray(fruit)
    flipped[60] ^= 255
    path.write_bytes(flipped)
    with pytest.raises(UserError, match="damaged"):
        unpack(path, tmp_path / "out", "trainA")
    path.write_bytes(fruit)
    with pytest.raises(UserError, match="refused"):
        unpack(path, tmp_path / "out", "trainA", limit=10)
    with pytest.raises(UserError, match="holds no trainC"):
        unpack(path, tmp_path / "out", "trainC")
    assert [p.name for p in tmp_path.iterdir()] == ["x.zip"]
