"""A page on this machine to try a generator on: pictures in, translations under a line, downloads.

It does what `infer.py` does, by the same functions and in the same words.
"""

import logging
import os
import signal
import socket
import tempfile
from pathlib import Path

from cyclegan_ms.errors import UserError
from cyclegan_ms.files import shown
from cyclegan_ms.interrupt import StopRequest
from cyclegan_ms.translate.folder import translate_files
from cyclegan_ms.translate.page import Album
from cyclegan_ms.translate.plan import Options, plan
from cyclegan_ms.translate.progress import Progress, TimeLeft

__all__ = ["Demo", "require_gradio", "serve"]

_SIDE = 1024
"""Longest side of the pictures under the line."""
_MEGABYTES = 100
"""Of a file that is sent, at most."""


def require_gradio(folder):
    """Import and return gradio, told to speak to nobody.

    Args:
        folder: where it keeps pictures that are sent.

    Raises:
        UserError: it is not installed.
    """
    os.environ.update(
        GRADIO_ANALYTICS_ENABLED="False", GRADIO_SSR_MODE="False", HF_HUB_OFFLINE="1",
        GRADIO_TEMP_DIR=str(Path(folder, "sent")),
    )  # fmt: skip
    try:
        import gradio
    except ImportError as error:
        raise UserError("the demo needs Gradio: pip install gradio 'numpy<2'") from error
    return gradio


class _Hints(logging.Handler):
    """Gathers what this package logs meanwhile: it is meant for whoever is at the page."""

    def __init__(self):
        super().__init__(logging.INFO)
        self.lines: list[str] = []
        self.package = logging.getLogger("cyclegan_ms")

    def emit(self, record):
        """Keep a line."""
        self.lines.append(record.getMessage())

    def __enter__(self):
        self.package.addHandler(self)
        self.package.propagate = False  # advice on flags is of no use where the server runs
        return self

    def __exit__(self, *error):
        self.package.propagate = True
        self.package.removeHandler(self)


class Demo:
    """What the page does: it needs no page itself.

    Args:
        load: gives the translator of a direction and a size, 0 for the picture's own.
        directions: their names, the first is offered first.
        size: at which the generators were trained.
        folder: for results, which are kept until it is removed.
        max_megapixels: larger pictures are refused.
    """

    def __init__(self, load, directions: list[str], size: int, folder, max_megapixels=50.0):
        self.load, self.directions, self.folder = load, directions, Path(folder)
        self.sizes = {
            f"{size} pixels, as in training": size,
            f"{2 * size} pixels": 2 * size,
            "as large as the picture (slow where that is large)": 0,
        }
        self.max_megapixels = max_megapixels
        self._at_work: dict[str, StopRequest] = {}

    def translate(
        self,
        files: list[str],
        direction: str,
        size: str,
        progress: Progress | None = None,
        visitor: str = "",
    ):
        """Translate pictures.

        Args:
            files: their paths.
            direction: one of `directions`.
            size: one of `sizes`.
            progress: is told how far the work is.
            visitor: for whom, so that `stop` knows.

        Returns pairs of small pictures, before and after; results; and what there is to say.

        Raises:
            UserError: there is nothing to translate.
        """
        if not files:
            raise UserError("drop a picture first, or take one with the camera")
        output = Path(tempfile.mkdtemp(dir=self.folder))
        options = Options(max_megapixels=self.max_megapixels)
        jobs = plan(files, output, options)
        album = Album(output, side=_SIDE)
        translator = self.load(direction, self.sizes[size])
        stop = self._at_work[visitor] = StopRequest()
        try:
            with _Hints() as hints:
                done = translate_files(translator, jobs, options, None, progress, stop, album)
        finally:
            self._at_work.pop(visitor)
        lines = [f"failed: {shown(path.name)}: {reason}" for path, reason in done.failed]
        lines += [f"note: {shown(path.name)}: {note}" for path, note in done.notes]
        lines += [f"note: {hint.replace('--size', 'working size')}" for hint in hints.lines]
        lines += [f"stopped: {done.unfinished} left"] if done.unfinished else []
        lines.append(f"{len(done.written)} translated in {done.seconds:.1f} s")
        pairs = [album.pictures(path) for path in done.written]
        return pairs, [str(path) for path in done.written], "\n".join(lines)

    def stop(self, visitor: str = "") -> None:
        """End what is being translated for a visitor, also within a large picture."""
        if visitor in self._at_work:
            self._at_work[visitor].caught = signal.SIGINT


def serve(demo: Demo, title: str, host: str = "127.0.0.1", port: int = 7860) -> None:
    """Show the page until the process is asked to end.

    Args:
        demo: what it does.
        title: of the page.
        host: address to serve at; 0.0.0.0 is every one that this machine has.
        port: the port; the next free ones are taken where it is in use.

    Raises:
        UserError: nothing can be served there.
    """
    gradio = require_gradio(demo.folder)
    try:
        family = socket.getaddrinfo(host, 0)[0][0]
        socket.create_server((host, 0), family=family).close()
    except OSError as error:
        raise UserError(f"--host {host}: no address of this machine") from error
    page = build(gradio, demo, title)
    free = port
    while True:
        try:
            page.launch(
                server_name=host, server_port=free, quiet=True, share=False, show_error=True,
                max_file_size=_MEGABYTES * 2**20, footer_links=[], enable_monitoring=False,
                theme=_theme(gradio), head=_STYLE, prevent_thread_lock=True,
                allowed_paths=[str(demo.folder)],
            )  # fmt: skip
            break
        except OSError as error:
            free += 1
            if free == port + 10:
                raise UserError(f"--host {host} --port {port}: {error}") from error
    print(f"open http://{'localhost' if host == '0.0.0.0' else host}:{free} (Ctrl-C ends it)")
    page.block_thread()


_STYLE = """<style>
footer { display: none !important }
.gradio-container { width: 100%; max-width: 1100px !important; margin: 0 auto !important }
.grid-wrap { min-height: 0 !important }
td.download { min-width: 6rem !important }
@media (max-width: 450px) { .fillable.app { padding: 8px !important } }
</style>"""
"""In the page's head: Gradio's own parameter for it reaches only what is inside of the page."""


def _theme(gradio):
    """Return a theme whose letters are this machine's: the usual one asks Google for them."""
    return gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])


def build(gradio, demo: Demo, title: str):
    """Return the page, ready to be launched."""
    with gradio.Blocks(title=title, analytics_enabled=False, delete_cache=(600, 600)) as page:
        gradio.Markdown(
            f"# {title}\nDrop pictures, translate them, and move the line over what became of them."
        )
        pairs = gradio.State([])
        with gradio.Row():
            with gradio.Column(scale=1):
                files = gradio.File(label="pictures", file_count="multiple", type="filepath")
                with gradio.Accordion("or use the camera", open=False):
                    camera = gradio.Image(sources=["webcam"], type="filepath", label="camera")
                direction = gradio.Radio(
                    demo.directions, value=demo.directions[0], label="direction"
                )
                size = gradio.Radio(
                    list(demo.sizes), value=next(iter(demo.sizes)), label="working size"
                )
                button = gradio.Button("Translate", variant="primary")
                halt = gradio.Button("Stop")
            with gradio.Column(scale=2):
                line = gradio.ImageSlider(
                    label="original | translation", interactive=False, buttons=["fullscreen"]
                )  # the results to download are below; this one is a small copy
                hint = gradio.Markdown("All of them: a click shows one above.", visible=False)
                chosen = gradio.Gallery(
                    show_label=False, columns=3, height="auto", visible=False,
                    allow_preview=False, object_fit="contain",
                )  # fmt: skip
                said = gradio.Textbox(label="messages", lines=4, interactive=False)
                results = gradio.Files(label="results, to download", interactive=False)

        def run(
            files, camera, direction, size,
            request: gradio.Request, bar=gradio.Progress(),  # noqa: B008 - Gradio's way
        ):  # fmt: skip
            left = TimeLeft()

            def progress(done):
                bar(done.share or None, desc=f"{done.name}{left(done)}")

            try:
                given = [*(files or []), *([camera] if camera else [])]
                visitor = str(request.session_hash)
                found, written, words = demo.translate(given, direction, size, progress, visitor)
            except UserError as error:
                gradio.Warning(str(error))  # the messages may be far below on a small screen
                hidden = gradio.update(visible=False)
                return None, [], hidden, hidden, str(error), None
            names = [Path(path).name for path in written]
            after = [(picture, name) for (_, picture), name in zip(found, names)]
            several = len(found) > 1
            columns = min(3, len(found)) or None
            others = gradio.update(value=after, visible=several, columns=columns)
            first = found[0] if found else None
            return first, found, gradio.update(visible=several), others, words, written

        inputs = [files, camera, direction, size]
        outputs = [line, pairs, hint, chosen, said, results]
        cleared = button.click(lambda: "", None, said, show_progress="hidden")
        cleared.then(
            run, inputs, outputs, concurrency_limit=1, scroll_to_output=True, show_progress_on=line
        )

        def leave(request: gradio.Request):
            demo.stop(str(request.session_hash))

        halt.click(leave, queue=False)
        page.unload(leave)  # a page that is closed holds up nobody else

        def pick(found, event: gradio.SelectData):
            return found[event.index]

        chosen.select(pick, pairs, line)
    return page
