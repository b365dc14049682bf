"""The notebook: as it is stored, and executed on a short setting.

`python tests/test_walkthrough.py` executes it whole and stores its outputs anew.
"""

import re
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from ipykernel.kernelspec import write_kernel_spec
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "scripts" / "walkthrough.ipynb"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
SHORT = {
    "data": {"root": "data/sample", "load_size": 36, "crop_size": 32, "max_images": 4},
    "model": {"blocks": 2, "width": 8},
    "train": {"epochs": 2, "log_every": 2},
}


def execute(notebook):
    """Run all cells as Jupyter would, in scripts/; the outputs are put into the notebook."""
    place = {"metadata": {"path": str(ROOT / "scripts")}}
    options = {"coalesce_streams": True, "record_timing": False}
    NotebookClient(
        notebook, timeout=1800, kernel_name="python3", resources=place, **options
    ).execute()
    notebook.metadata = METADATA  # without the version of this Python
    return notebook


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(notebook):
    streams = [o for c in code_cells(notebook) for o in c.outputs if o.output_type == "stream"]
    return "".join(stream.text for stream in streams if stream.name == "stdout")


def pictures(notebook):
    outputs = [o for c in code_cells(notebook) for o in c.outputs if "data" in o]
    return [kind for o in outputs for kind in o.data if kind in ("image/png", "image/jpeg")]


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """Makes this Python the kernel, whichever are installed."""
    write_kernel_spec(tmp_path / "kernels" / "python3")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))


def test_it_runs_on_a_short_setting(kernel, tmp_path):
    config, run = tmp_path / "short.yaml", tmp_path / "run"
    config.write_text(yaml.safe_dump(SHORT))
    run.mkdir()  # taken: another folder is to be filled
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (settings,) = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    settings.source = f"CONFIG, RUN = {str(config)!r}, {str(run)!r}\nimport sys\nprint(sys.prefix)"
    execute(notebook)

    text = printed(notebook)
    assert text.startswith(sys.prefix)
    # Width 8, 2 blocks; stem, down, down, blocks, up, up, end.
    generator = 3 * 49 * 8 + 8 + 8 * 9 * 16 + 16 + 16 * 9 * 32 + 32 + 4 * (32 * 9 * 32 + 32)
    generator += 32 * 9 * 16 + 16 + 16 * 9 * 8 + 8 + 8 * 49 * 3 + 3
    assert f"this generator:  {generator:,} parameters" in text
    assert "the paper's:     11,378,179 parameters" in text
    assert "the paper's:         2,764,737 parameters" in text
    assert "each number sees 70x70 pixels" in text
    assert "halved sum 0.25" in text
    assert "8 steps, 4 an epoch, from 0.0002 to 0.0001" in text
    assert "all metrics equal: True" in text
    assert "8 translated, 0 failed" in text
    assert re.search(r"apple2orange\.mindir: 0\.\d MB, differs by (0|\de-\d\d)\n", text)
    assert len(pictures(notebook)) == 10

    assert list(run.iterdir()) == []
    files = {path.name for path in (tmp_path / "run_2").iterdir()}
    assert files == {
        "config.yaml", "metrics.jsonl", "losses.png", "index.html", "samples", "checkpoints",
        "g_ab.ckpt", "g_ba.ckpt", "resumed", "translated",
        "apple2orange.mindir", "apple2orange.onnx",
    }  # fmt: skip


def test_the_stored_notebook_is_fit_to_be_read():
    assert NOTEBOOK.stat().st_size < 1_500_000
    stored = NOTEBOOK.read_text(encoding="utf-8")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata == METADATA
    for number, cell in enumerate(code_cells(notebook), 1):
        assert cell.execution_count == number
        assert set(cell.metadata) <= {"tags"}
        assert cell.outputs or cell.metadata.get("tags") == ["parameters"]
        assert all(output.get("name") != "stderr" for output in cell.outputs)
        assert all(output.output_type != "error" for output in cell.outputs)
    assert not re.search(r"/(tmp|work|root|home|usr|mnt)/|Traceback|Warning", stored)
    assert len(pictures(notebook)) == 10
    assert "all metrics equal: True" in printed(notebook)


def test_it_retells_the_package_instead_of_implementing_it_again():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    source = "\n".join(cell.source for cell in code_cells(notebook))
    assert not re.search(r"^\s*class |construct|nn\.\w+\(|ops\.", source, re.M)


def test_every_section_is_summed_up_in_chinese():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    sections = re.split(r"^## ", text, flags=re.M)
    assert len(sections) == 16
    for section in sections:
        assert re.search(r"^> .*[\u4e00-\u9fff]", section, re.M), section.splitlines()[0]


if __name__ == "__main__":
    nbformat.write(execute(nbformat.read(NOTEBOOK, as_version=4)), NOTEBOOK)
