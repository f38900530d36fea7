"""The Python blocks of README and docs and the notebooks run as written, on tiny budgets."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

from tests.helpers.folders import run_folder
from tests.helpers.processes import ended, start_code

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/api.md", "docs/metrics.md", "docs/commands.md", "docs/zoo.md")
# what a page leaves to the reader, next to folders of images and a run
PRELUDE = """
import gan_lab
import torch
from torch.utils.data import TensorDataset
my_dataset = TensorDataset(torch.rand(120, 1, 28, 28), torch.arange(120) % 10)
real_images = fake_images = (torch.rand(64, 3, 32, 32) * 255).to(torch.uint8)
"""
# budgets that a reader pays and a test does not
SMALLER = {
    "run.images=20000": "run.images=64",
    "max_steps=200": "max_steps=2",
    "max_steps=20,": "max_steps=2,",
    "every=10, n=200": "every=1, n=100",
    "IMAGES = 40_000": "IMAGES = 128",
    "IMAGES = 60_000": "IMAGES = 128",
    "STEPS = 600": "STEPS = 2",
    "torch.rand(256, 1, 28, 28), torch.arange(256)": (
        "torch.rand(120, 1, 28, 28), torch.arange(120)"
    ),
    '"model.width=16"': '"model.width=8"',
}
TINY = [
    "run.images=64",
    "run.evaluate_every_images=64",
    "data.source=sample",
    "model.width=8",
    "metrics.num_fakes=64",
    "metrics.num_reals=64",
    "log.wandb=off",
]


def make_smaller(code: str) -> str:
    """Cut the budgets, and keep a training away from data and trackers outside of the test."""
    for usual, small in SMALLER.items():
        code = code.replace(usual, small)
    anywhere = [override for override in TINY if not override.startswith(("run.", "data."))]
    code = code.replace("overrides=[", f"overrides=[*{anywhere!r}, ")
    code = code.replace('"cgan", overrides=[', '"cgan", overrides=["data.source=sample", ')
    return code.replace(
        "MNISTDataModule(batch_size=64)", 'MNISTDataModule(batch_size=64, source="sample")'
    )


def run_python(code: str, folder: Path) -> None:
    """Run a program in a folder, in a forked process, which starts faster than a new one."""
    log = folder / "log.txt"
    (exit_code,) = ended([start_code(code, folder, log)], seconds=500)
    assert exit_code == 0, f"{code}\n{log.read_text(encoding='utf-8')[-3000:]}"


def write_images(folder: Path, n: int = 30) -> None:
    folder.mkdir()
    rng = np.random.default_rng(len(folder.name))
    for i in range(n):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(
            folder / f"{i:03}.png"
        )


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_python_blocks_of_a_page_run(page: str, tmp_path: Path, data_root: Path) -> None:
    blocks = re.findall(
        r"^```python\n(.*?)^```",
        (ROOT / page).read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    assert blocks, f"{page} has no Python: take it off the list"
    for name in ("fakes", "reals", "samples", "photos"):
        write_images(tmp_path / name)
    seed0 = tmp_path / "runs" / "cgan" / "seed0"
    seed0.parent.mkdir(parents=True)
    run_folder("cgan", tmp_path, data_root).rename(seed0)
    run_python("\n".join([PRELUDE, *map(make_smaller, blocks)]), tmp_path)


def test_every_page_with_python_is_run() -> None:
    pages = [
        ROOT / "README.md",
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "docs" / "methods").glob("*.md"),
    ]
    with_python = {
        str(page.relative_to(ROOT))
        for page in pages
        if "```python" in page.read_text(encoding="utf-8")
    }
    assert with_python == {*PAGES, "docs/extending.md"}


@pytest.mark.slow
def test_dragan_of_the_extending_page_trains_by_name(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    dragan, own_trainer, one_sided = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "dragan.py").write_text(dragan, encoding="utf-8")
    assert len(dragan.split("@dataclass")[1].strip().splitlines()) <= 25
    run_python(
        f"{PRELUDE}\nimport gan_lab\n"
        f"run = gan_lab.train('wgan_gp', overrides={[*TINY, 'family=mine.dragan']!r})\n"
        "assert run.config.family == 'mine.dragan' and run.history['penalty']\n"
        f"{own_trainer.replace('max_steps=100', 'max_steps=2')}\n"
        f"{one_sided}\n"
        "DRAGAN.penalty = penalty\n"
        "lightning.Trainer(max_steps=2, precision='bf16-mixed')"
        ".fit(model, DataLoader(my_dataset, 32))\n",
        tmp_path,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", sorted((ROOT / "examples").glob("*.ipynb")), ids=lambda path: path.stem
)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a real kernel: every cell, and a picture among the outputs."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        assert not cell.get("outputs"), f"{path.name}: clear the outputs before committing"
        if cell.cell_type == "code":
            cell.source = make_smaller(cell.source)
    client = NotebookClient(
        notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert "image/png" in kinds, "no picture is shown"
    if "gan_lab.train(" in path.read_text(encoding="utf-8"):
        html = [
            output["data"]["text/html"]
            for output in outputs
            if "text/html" in output.get("data", {})
        ]
        assert any("<progress" in text for text in html), "the training shows no progress bar"
        assert any("samples after" in text for text in html), "the training shows no grid"
