"""Downloads and archives, against a server on this machine."""

import hashlib
import io
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from cyclegan_ms.data.prepare import Source, download, prepare_archive, unpack
from cyclegan_ms.errors import UserError

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
            self.send_error(416)
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
    return hashlib.sha256(data).hexdigest()


def test_download_and_unpack(server, fruit, tmp_path):
    server.body = fruit
    source = Source(server.url, digest(fruit), "trainA")
    root = prepare_archive(source, tmp_path / "data" / "fruit")
    assert root == tmp_path / "data" / "fruit"
    found = {str(p.relative_to(root)) for p in root.rglob("*.png")}
    assert found == {f"{split}/1.png" for split in ("trainA", "trainB", "testA", "testB")}
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["fruit"]
    with pytest.raises(UserError, match="exists already"):
        prepare_archive(source, root)


def test_the_tutorials_archive_gives_its_mindrecord_file(server, tmp_path):
    name = "apple2orange_train.mindrecord"
    server.body = archive({f"CycleGAN_apple2orange/{n}": b"x" for n in (name, f"{name}.db")})
    root = prepare_archive(Source(server.url, None, name), tmp_path / "data")
    assert root == tmp_path / "data" / name
    assert root.is_file() and root.with_name(f"{name}.db").is_file()


def test_an_interrupted_download_continues(server, tmp_path):
    server.body = np.random.default_rng(0).bytes(300_000)
    server.break_after = 2 << 16  # whole chunks of the client's
    target = tmp_path / "x.zip"
    with pytest.raises(UserError, match=r"0.1 MB are kept; run the same command to continue"):
        download(server.url, target, digest(server.body))
    assert not target.exists()
    assert (tmp_path / "x.zip.part").stat().st_size == 2 << 16
    download(server.url, target, digest(server.body))
    assert server.asked == [None, f"bytes={2 << 16}-"]
    assert target.read_bytes() == server.body
    assert [p.name for p in tmp_path.iterdir()] == ["x.zip"]


def test_a_server_without_ranges_starts_again(server, tmp_path):
    server.body, server.ranges = b"0123456789" * 1000, False
    (tmp_path / "x.zip.part").write_bytes(b"something old")
    download(server.url, tmp_path / "x.zip", digest(server.body))
    assert (tmp_path / "x.zip").read_bytes() == server.body


def test_a_complete_part_is_taken(server, tmp_path):
    server.body = b"0123456789" * 1000
    (tmp_path / "x.zip.part").write_bytes(server.body)
    download(server.url, tmp_path / "x.zip", digest(server.body))
    assert (tmp_path / "x.zip").read_bytes() == server.body


def test_a_wrong_checksum_removes_the_file(server, tmp_path):
    server.body = b"something else"
    with pytest.raises(UserError, match="checksum"):
        download(server.url, tmp_path / "x.zip", digest(b"what was published"))
    assert not list(tmp_path.iterdir())


def test_refused_and_unreachable(server, tmp_path):
    with pytest.raises(UserError, match="404"):
        download(server.url.replace("apple", "pear"), tmp_path / "x.zip")
    with pytest.raises(UserError, match="run the same command to continue"):
        download("http://127.0.0.1:9/x.zip", tmp_path / "x.zip")


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
