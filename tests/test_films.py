"""Films: frames, times, sound, and what cannot be kept. They are made here, of plain colours."""

import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from helpers import Negative, script
from PIL import Image

from cyclegan_ms.errors import UserError
from cyclegan_ms.interrupt import StopRequest
from cyclegan_ms.translate import Translator
from cyclegan_ms.translate.films import translate_film
from cyclegan_ms.translate.folder import translate_files
from cyclegan_ms.translate.page import Album
from cyclegan_ms.translate.plan import Options, plan

pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("pynative")]

BT709, BT601, LIMITED = 1, 5, 1
CORNER, REST = (30, 180, 60), (200, 40, 90)


def negative(color):
    return tuple(255 - value for value in color)


def film(path, frames=6, size=(48, 32), sound="aac", matrix=BT709, times=None, depth=8):
    """Write a film with a corner, upper left, of another colour, and a tone."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=10, options={"crf": "4"})
        video.width, video.height = size
        video.pix_fmt = "yuv420p" if depth == 8 else "yuv420p10le"
        video.codec_context.colorspace, video.codec_context.color_range = matrix, LIMITED
        tone = out.add_stream(sound, rate=44100, layout="mono") if sound else None
        out.metadata["title"] = "two colours"
        for index in range(frames):
            pixels = np.full((size[1], size[0], 3), REST, np.uint8)
            pixels[: size[1] // 2, : size[0] // 2] = CORNER
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(
                format=video.pix_fmt, dst_colorspace=matrix, dst_color_range=LIMITED
            )
            frame.pts = times[index] if times else index
            frame.time_base = Fraction(1, 10)
            out.mux(video.encode(frame))
            if tone:
                wave = np.sin(np.arange(index * 4410, (index + 1) * 4410) / 20)
                kind = "s16" if sound.startswith("pcm") else "fltp"
                values = wave * 8000 if kind == "s16" else wave / 4
                values = values.astype(np.int16 if kind == "s16" else np.float32)
                heard = av.AudioFrame.from_ndarray(values[None], format=kind, layout="mono")
                heard.sample_rate, heard.pts, heard.time_base = (
                    44100,
                    index * 4410,
                    Fraction(1, 44100),
                )
                out.mux(tone.encode(heard))
        for stream in (video, tone):
            if stream:
                out.mux(stream.encode())
    return path


def watched(path):
    """Return frames as RGB arrays, their times in seconds, and the sound's samples."""
    with av.open(str(path)) as file:
        frames = list(file.decode(video=0))
    pictures = [frame.reformat(format="rgb24").to_ndarray() for frame in frames]
    return pictures, [frame.time for frame in frames], heard(path)


def heard(path):
    with av.open(str(path)) as file:
        if not file.streams.audio:
            return np.zeros(0)
        return np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])


def packets(path):
    """Return the compressed sound."""
    with av.open(str(path)) as file:
        return [bytes(packet) for packet in file.demux(audio=0) if packet.size]


@pytest.fixture
def translator():
    return Translator(Negative())


@pytest.mark.parametrize("matrix", [BT709, BT601])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_every_frame_is_translated(matrix, batch_size, translator, tmp_path):
    """Colours are those of the film, whichever way it stores them; sound is not touched."""
    source = film(tmp_path / "in.mp4", matrix=matrix)
    done = translate_film(translator, source, tmp_path / "out.mp4", batch_size)
    assert (done.frames, done.whole, done.notes) == (6, True, [])
    pictures, times, _ = watched(tmp_path / "out.mp4")
    assert times == pytest.approx(np.arange(6) / 10, abs=1e-6)
    for picture in pictures:
        assert picture.shape == (32, 48, 3)
        assert np.abs(picture[4, 4].astype(int) - negative(CORNER)).max() <= 4
        assert np.abs(picture[28, 40].astype(int) - negative(REST)).max() <= 4
    assert packets(tmp_path / "out.mp4") == packets(source)
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert file.metadata["title"] == "two colours"
        assert file.streams.video[0].codec_context.colorspace == BT709
    before, after = done.first
    assert np.abs(np.asarray(before, int)[4, 4] - CORNER).max() <= 4
    assert np.abs(np.asarray(after, int)[4, 4] - negative(CORNER)).max() <= 4


def test_times_of_frames_are_kept(translator, tmp_path):
    """As of telephones, which film at no constant rate."""
    times = [0, 1, 4, 5, 9, 20]
    translate_film(translator, film(tmp_path / "in.mp4", times=times), tmp_path / "out.mp4")
    assert watched(tmp_path / "out.mp4")[1] == pytest.approx(np.array(times) / 10, abs=1e-6)


def test_filmed_upright(translator, tmp_path):
    """A telephone writes that its film is to be turned; the result stands upright by itself."""
    path = film(tmp_path / "in.mp4", sound=None)
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    one = 0x10000
    # Turned by 90 degrees clockwise to be seen: x' = height - y, y' = x.
    content[matrix : matrix + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 32 * one, 0, 1 << 30)
    path.write_bytes(content)
    translate_film(translator, path, tmp_path / "out.mp4")
    picture = watched(tmp_path / "out.mp4")[0][0].astype(int)
    assert picture.shape == (48, 32, 3)
    assert np.abs(picture[4, 28] - negative(CORNER)).max() <= 4  # from upper left to upper right
    assert np.abs(picture[4, 4] - negative(REST)).max() <= 4
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert next(file.decode(video=0)).rotation == 0


def test_what_a_film_cannot_keep_is_said(translator, tmp_path):
    source = film(tmp_path / "in.avi", sound="pcm_s16le")
    done = translate_film(translator, source, tmp_path / "out.mp4")
    assert done.notes == ["its sound (pcm_s16le) is AAC now"]
    pictures, times, samples = watched(tmp_path / "out.mp4")
    assert times == pytest.approx(np.arange(6) / 10, abs=1e-6) and len(pictures) == 6
    expected = np.sin(np.arange(6 * 4410) / 20) * 8000 / 32768
    count = min(len(samples), len(expected))
    assert count >= 6 * 4410 - 1024
    assert np.corrcoef(samples[:count], expected[:count])[0, 1] > 0.99

    deep = film(tmp_path / "deep.mp4", sound=None, depth=10)
    assert translate_film(translator, deep, tmp_path / "8.mp4").notes == ["reduced to 8 bits"]


def test_side_by_side_and_working_size(tmp_path):
    source = film(tmp_path / "in.mp4", sound=None)
    translate_film(Translator(Negative(), size=16), source, tmp_path / "out.mp4", side_by_side=True)
    picture = watched(tmp_path / "out.mp4")[0][0].astype(int)
    assert picture.shape == (32, 96, 3)
    assert np.abs(picture[4, 4] - CORNER).max() <= 4
    assert np.abs(picture[4, 52] - negative(CORNER)).max() <= 4


def test_plan_and_names(tmp_path):
    """Beside pictures; the same names but for the ending; of folders only pictures are taken."""
    source = tmp_path / "in"
    source.mkdir()
    Image.new("RGB", (8, 8)).save(source / "a.png")
    paths = [film(source / name, frames=1, sound=None) for name in ("a.mp4", "a.mov", "b.MOV")]
    jobs = plan([*paths, source / "a.png"], tmp_path / "out", Options(format="jpg"))
    assert [job.target.name for job in jobs] == ["a.mp4", "a_mov.mp4", "b.mp4", "a.jpg"]
    assert [job.source.name for job in plan(source, tmp_path / "out", Options())] == ["a.png"]
    (job,) = plan(paths[0], tmp_path / "film.mp4", Options())
    assert job.target == tmp_path / "film.mp4"
    for given, output in ((paths[0], "x.jpg"), (source / "a.png", "x.mp4"), (paths[0], "x.mov")):
        with pytest.raises(UserError, match=r"a film becomes an \.mp4 file"):
            plan(given, tmp_path / output, Options())
    with pytest.raises(UserError, match="--cycle: for pictures"):
        plan(paths, tmp_path / "out", Options(cycle=True))
    with pytest.raises(UserError, match=r"--format: for pictures, a film becomes an \.mp4 file"):
        plan(paths, tmp_path / "out", Options(format="png"))


def test_with_pictures_damage_and_a_page(translator, tmp_path):
    good = film(tmp_path / "good.mp4")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(good.read_bytes()[:900])
    (tmp_path / "words.mp4").write_text("no film")
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")
    sources = [good, cut, tmp_path / "words.mp4", tmp_path / "a.png"]
    options = Options(page=True)
    output = tmp_path / "out"
    album = Album(output)
    jobs = plan(sources, output, options)
    result = translate_files(translator, jobs, options, album=album)
    assert [path.name for path in result.written] == ["a.png", "good.mp4"]
    assert [path.name for path, _ in result.failed] == ["cut.mp4", "words.mp4"]
    assert all(reason == "no film, or damaged or cut off" for _, reason in result.failed)
    page = album.write("films", [job.target for job in jobs], {}, []).read_text()
    assert '"file": "good.mp4"' in page and "6 frames" in page
    left = {str(p.relative_to(output)) for p in output.rglob("*") if p.parent.name != ".page"}
    assert left == {"a.png", "good.mp4", "index.html", ".page"}


def test_a_stopped_film_leaves_nothing(translator, tmp_path):
    stop = StopRequest()
    stop.caught = 2
    jobs = plan(film(tmp_path / "in.mp4"), tmp_path / "out", Options())
    result = translate_files(translator, jobs, Options(), stop=stop)
    assert (result.written, result.unfinished) == ([], 1)
    done = translate_film(
        translator, tmp_path / "in.mp4", tmp_path / "x.mp4", watch=lambda *_: True
    )
    assert (done.frames, done.whole) == (1, False)
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


def test_too_large_or_without_pictures(translator, tmp_path):
    source = film(tmp_path / "in.mp4")
    with pytest.raises(OSError, match=r"48x32 pixels, more than --max_megapixels 0.001"):
        translate_film(translator, source, tmp_path / "out.mp4", max_megapixels=0.001)
    with av.open(str(tmp_path / "tone.m4v"), "w", format="mp4") as out:
        tone = out.add_stream("aac", rate=44100, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        silence.sample_rate = 44100
        out.mux(tone.encode(silence))
        out.mux(tone.encode())
    with pytest.raises(OSError, match="holds no film, only sound"):
        translate_film(translator, tmp_path / "tone.m4v", tmp_path / "out.mp4")


def test_the_command(tmp_path):
    source = film(tmp_path / "in.mp4", frames=2, size=(64, 64))
    given = ["--checkpoint", "apple2orange", "--direction", "a2b", "--input", source]
    done = script("infer", *given, "--output", tmp_path / "out.mp4", "--size", "32")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 translated, 0 skipped, 0 failed")
    assert len(watched(tmp_path / "out.mp4")[0]) == 2
