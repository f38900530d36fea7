"""A GPU on a machine without one: its tensors have shapes, types and a device, but no values.

What mixes devices raises as it would on a real one; what makes the host wait for the device is
counted. It is registered as a backend of this process, which is why ``rehearse`` is called in a
process of its own.
"""

from __future__ import annotations

import json
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from gan_lab.config import loading
from gan_lab.metrics import translation_scores
from gan_lab.metrics.base import Metric
from gan_lab.metrics.evaluator import _quantize_batch, build_setting
from gan_lab.metrics.selection import select_metrics
from gan_lab.runs.checkpoints import latest_checkpoint, read_checkpoint
from gan_lab.runs.run_folder import RunFolder
from gan_lab.training import builder
from gan_lab.training.callbacks import sample_grids

NAME = "fakegpu"
DEVICE = f"{NAME}:0"
UNKNOWN_SIZE = (
    "nonzero",
    "masked_select",
    "unique",
    "bincount",
)  # the host must ask how large they are
# of which CUDA adds up parts in another order each time: torch.use_deterministic_algorithms lists
# them
IN_ANY_ORDER = (
    "reflection_pad", "replication_pad", "upsample_linear", "upsample_bilinear", "upsample_bicubic",
    "upsample_trilinear", "adaptive_avg_pool", "adaptive_max_pool", "fractional_max_pool",
    "max_pool3d", "avg_pool3d", "max_unpool", "grid_sampler",
    "scatter_add", "scatter_reduce", "index_add", "index_reduce", "put", "histc", "cumsum",
    "kthvalue", "median", "nll_loss2d", "ctc_loss", "embedding_bag",
)  # fmt: skip


class Module(backend_registration._DummyBackendModule):
    """What torch asks of a backend that knows autocast."""

    @staticmethod
    def get_amp_supported_dtype() -> list[torch.dtype]:
        return [torch.bfloat16]

    @staticmethod
    def current_device() -> int:
        return 0


class Waits(TorchDispatchMode):
    """Counts synchronizations: scalars that are read, and copies to the host.

    Sizes that depend on values are errors.
    """

    def __init__(self, fake: FakeTensorMode) -> None:
        super().__init__()
        self.fake, self.seen, self.any_order = fake, Counter[str](), set[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map_only(torch.Tensor, self._faked, (args, kwargs or {}))
        name = func.__name__.partition(".")[0].lstrip("_")
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        on_device = any(tensor.device.type == NAME for tensor in tensors)
        if name == "local_scalar_dense":
            self.seen["scalar"] += on_device
            return (args[0].dtype.is_floating_point and 1.0) or args[0].dtype == torch.bool or 1
        if on_device and (name.startswith(UNKNOWN_SIZE) or (name == "index" and _by_mask(args[1]))):
            raise AssertionError(f"{name} makes the host wait: its size depends on values")
        if on_device and name.startswith(IN_ANY_ORDER):
            self.any_order.add(name)
        made = func(*args, **kwargs)
        if name == "to_copy" and {args[0].device.type, made.device.type} == {NAME, "cpu"}:
            there = made.device.type == NAME
            self.seen["copy to the device" if there else "copy to the host"] += not (
                there and kwargs.get("non_blocking")
            )
        return made

    def _faked(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor if isinstance(tensor, FakeTensor) else self.fake.from_tensor(tensor)


def _device_of(argument: Any) -> Any:
    return torch.device(argument) if isinstance(argument, str) else argument


def _by_mask(indices: Any) -> bool:
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)


@contextmanager
def fake_gpu() -> Iterator[Waits]:
    """Make ``.to(DEVICE)`` give tensors without values.

    Records synchronizations, and operations that add up in any order.
    """
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    waits = Waits(fake)

    def tolist(self: FakeTensor) -> Any:
        waits.seen["list"] += self.device.type == NAME
        value: Any = True if self.dtype == torch.bool else 1.0
        for size in reversed(self.shape):
            value = [value] * size
        return value

    move, make = nn.Module.to, torch.tensor

    def tensor(data: Any, *, dtype: Any = None, device: Any = None, **kwargs: Any) -> torch.Tensor:
        made = make(data, dtype=dtype, **kwargs)
        return made if device is None else made.to(device)

    def to(
        self: nn.Module, *args: Any, **kwargs: Any
    ) -> nn.Module:  # what lies there already cannot be swapped again
        there = {tensor.device for tensor in (*self.parameters(), *self.buffers())} == {
            *map(_device_of, args)
        }
        return self if there else move(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch, fake, waits:
        patch.setattr(FakeTensor, "tolist", tolist)
        patch.setattr(nn.Module, "to", to)
        patch.setattr(torch, "tensor", tensor)
        yield waits


def rehearse(every: dict[str, tuple[str, list[str]]], root: Path, out: Path) -> None:
    """Write what happens on the device, by family, of experiments with overrides, to ``out``."""
    # before the first gradient is computed, for which torch counts the kinds of device
    backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=Module())
    found: dict[str, Any] = {}
    for family, (name, words) in every.items():
        try:
            found[family] = _rehearsed(name, words, root / family)
        except Exception:
            found[family] = {"raised": traceback.format_exc()}
    out.write_text(json.dumps(found))


def _rehearsed(name: str, words: list[str], folder: Path) -> dict[str, Any]:
    loaded = loading.load(name, words)
    (folder / "checkpoints").mkdir(parents=True)
    built = builder.build(*builder.load_data(loaded.config), RunFolder(folder))
    setting = replace(build_setting(loaded.config, built.family, built.data, final=True), reals=100)
    metrics = select_metrics(setting)
    built.evaluation.evaluator.metrics = []
    built.trainer.fit(built.family, datamodule=built.data)  # on the CPU, up to a checkpoint
    path = latest_checkpoint(folder)
    assert path is not None
    with fake_gpu() as gpu:
        return _on(gpu, built, metrics, read_checkpoint(path))


def _on(
    gpu: Waits, built: builder.Experiment, metrics: list[Metric], checkpoint: dict[str, Any]
) -> dict[str, Any]:
    family, data, trainer, device = (
        built.family.to(DEVICE),
        built.data,
        built.trainer,
        torch.device(DEVICE),
    )
    callbacks: Any = {type(callback).__name__: callback for callback in trainer.callbacks}  # type: ignore[attr-defined]
    budget, ema, evaluator = callbacks["Progress"], callbacks["EMA"], built.evaluation.evaluator
    trainer.strategy.optimizers = family.configure_optimizers()
    family.load_state_dict(checkpoint["state_dict"])
    for optimizer, state in zip(
        trainer.strategy.optimizers, checkpoint["optimizer_states"], strict=True
    ):
        optimizer.load_state_dict(state)
    ema.on_load_checkpoint(trainer, family, checkpoint)
    callbacks["CSVLogger"].load_state_dict(checkpoint["callbacks"]["CSVLogger"])
    ema.on_fit_start(trainer, family)
    callbacks["CSVLogger"].on_train_start(trainer, family)
    # a step is slow here: as few as come to the generator, and two at least
    budget.iterations = data.iterations = budget.iteration + max(
        2, getattr(family.cfg, "n_critic", 1)
    )
    gpu.seen.clear()
    for batch in data.train_dataloader():
        moved = data.on_after_batch_transfer(data.transfer_batch_to_device(batch, device))
        family.training_step(moved, 0)
        for name in ("Progress", "EMA"):
            callbacks[name].on_train_batch_end(trainer, family)
        if budget.spent:
            break
        callbacks["CSVLogger"].on_train_batch_end(trainer, family)
    waits, any_order = {"step": sum(gpu.seen.values())}, sorted(gpu.any_order)
    family.eval()
    reals = _quantize_batch(evaluator.reals[0].to_device(device), False)
    evaluator._real_statistics = [
        metric.update_real(reals) if metric.reals_key else {} for metric in metrics
    ]
    assert all(
        tensor.device.type == "cpu"
        for known in evaluator._real_statistics
        for tensor in known.values()
    )
    evaluator.metrics, callbacks["Diversity"]._real = metrics, None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample_grids, "save_grid", lambda images, *_, **__: images.cpu())
        patch.setattr(
            translation_scores, "_ssim", lambda images, _: images.cpu().double().mean(dim=(1, 2, 3))
        )  # NumPy's values
        for metric in metrics:
            patch.setattr(
                metric,
                "compute",
                lambda real, fake: {name: 0.0 for name in fake if fake[name].device.type != "cpu"},
            )
        for name in ("FiniteCheck", "SampleGrids", "Diversity", "Evaluation", "CSVLogger"):
            for call in range(
                2 if name == "Diversity" else 1
            ):  # the first time it measures the reals
                gpu.seen.clear()
                callbacks[name].on_train_batch_end(trainer, family)
                waits[name if call == 0 else f"{name} again"] = sum(gpu.seen.values())
        assert not built.evaluation.scores, (
            f"{built.evaluation.scores} of an evaluation is not on the CPU"
        )
    assert all(
        value.device.type == "cpu"
        for mean in callbacks["CSVLogger"].state_dict()["ranks"][0].values()
        for value in mean[2]
    )
    return {"waits": waits, "in any order": any_order}
