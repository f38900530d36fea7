"""A family, a data set and an extractor in files outside the package, by module name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gan_lab.config import loading
from gan_lab.metrics.selection import find_metrics
from gan_lab.report.compare import compare
from gan_lab.runs.checkpoints import read_checkpoint
from gan_lab.runs.results import read_summary
from gan_lab.runs.run_folder import RunFolder
from gan_lab.training.loop import train
from tests.helpers.families import small

FAMILY_FILE = """
from dataclasses import dataclass
from gan_lab.families.gan import GAN, GANConfig
from gan_lab.networks.dcgan import DCGANGenerator

class Shifted(DCGANGenerator):
    def sample_latents(self, stream, n, like):
        return 3 + super().sample_latents(stream, n, like)

class Mine(GAN):
    def build_networks(self, spec, cfg):
        super().build_networks(spec, cfg)
        self.generator = Shifted(z_dim=cfg.z_dim, shape=spec.shape, width=4)

FAMILY = Mine
"""
DATA_FILE = """
import numpy as np
from gan_lab.data.array_dataset import ArrayDataset
from gan_lab.images import ImageSpec

SIZE = 16

def decode(cfg):
    shape = (120, 1, cfg.size, cfg.size)
    pixels = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    spec = ImageSpec(1, cfg.size, cfg.size)
    train, test = pixels[:100], pixels[100:]
    return ArrayDataset(spec, train, None, test, None, "full", "noise of my own", "noise")
"""
EXTRACTOR_FILE = """
from torch import nn
from gan_lab.metrics.extractors.base import Extractor

class Means(Extractor):
    name, features, resize = "means", 1, "none"
    def __init__(self):
        self.network = nn.Identity()
    def forward(self, pixels):
        return pixels.float().flatten(1).mean(dim=1, keepdim=True), None

EXTRACTOR = Means
"""
METRIC_FILE = """
from gan_lab.metrics.base import Metric

class Numbered(Metric):
    priority = 1
    higher_is_better = {"swd": HIGHER}
    evaluations = 0

    def update_fake(self, outputs, batch):
        return {"rows": outputs["generated"].flatten(1).cpu()}

    def compute(self, real, fake):
        Numbered.evaluations += 1
        return {"swd": float(Numbered.evaluations)}

    def protocol(self, score, n):
        return {"extractor": "none"}

METRIC = Numbered
"""


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    own = tmp_path / "mine"
    own.mkdir()
    for name, text in (
        ("method", FAMILY_FILE),
        ("noise", DATA_FILE),
        ("means", EXTRACTOR_FILE),
        ("up", METRIC_FILE.replace("HIGHER", "True")),
        ("down", METRIC_FILE.replace("HIGHER", "False")),
    ):
        (own / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


def test_extensions_outside_the_package_train_score_and_sample(
    outside: Path, data_root: Path
) -> None:
    words = small("gan", outside, data_root, "family=mine.method", "data.name=mine.noise",
                  "metrics.extractors=[mine.means]", "metrics.num_fakes=20", "metrics.num_reals=20",
                  "metrics.allow_small_n=true", "run.images=32", "run.evaluate_every_images=16",
                  "run.id=own", "model.network=dcgan")  # fmt: skip
    words = [
        word
        for word in words
        if not word.startswith(("data.size", "data.name=mnist", "data.source"))
    ]
    loaded = loading.load("gan", words)
    assert loaded.config.data.size == 16
    assert train(loaded, words) == 0
    folder = RunFolder.of(loaded).path
    assert "fd_means" in read_summary(folder)["scores"]["best"]
    code = (
        f"import gan_lab; print(gan_lab.load_generator({str(folder)!r}).network.__class__.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=outside)
    assert done.stdout.strip() == "Shifted", done.stderr


@pytest.mark.parametrize(("name", "best"), [("up", 4), ("down", 2)])
def test_own_metric_selects_the_best_checkpoint(
    name: str, best: int, outside: Path, data_root: Path
) -> None:
    words = small("gan", outside, data_root, f"metrics.include=[mine.{name}]", "run.images=64",
                  "run.evaluate_every_images=32", "run.id=x")  # fmt: skip
    loaded = loading.load("gan", words)
    assert train(loaded, words) == 0
    folder = outside / "gan" / "x"
    assert read_checkpoint(folder / "checkpoints" / "best.ckpt")["iteration"] == best
    assert read_summary(folder)["headline"] == "swd"
    assert read_summary(folder)["scores"]["best"]["swd"]["higher_is_better"] is (name == "up")
    (column,) = (column for column in compare([folder]).columns if column.score == "swd")
    assert column.higher_is_better is (name == "up")
    assert (
        f"swd, {'higher' if name == 'up' else 'lower'} is better"
        in (folder / "report.html").read_text()
    )


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("family=mine.nothing", "No module named 'mine.nothing'"),
        ("family=mine.noise", "noise.py does not define FAMILY"),
        ("family=.mine", "'.mine' is not a valid module name"),
        ("metrics.include=[mine.noise]", "noise.py does not define METRIC"),
        ("metrics.include=[swd]", "unknown metric 'swd'"),
        ("family=gann", "unknown family 'gann'. Did you mean 'gan'?"),
    ],
)
def test_what_is_not_there_or_is_something_else_is_one_line(
    word: str, said: str, outside: Path
) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        find_metrics(loading.load("gan", [word]).config.metrics.include)
    assert said in str(error.value)
