"""A GPU on a machine without one: its tensors have shapes, types and a device, but no values.

What mixes devices raises as it would on a real one; what makes the host wait for the device is counted. It is registered as
a backend of this process, which is why ``rehearse`` is called in a process of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

NAME = "fakegpu"
DEVICE = f"{NAME}:0"
UNKNOWN_SIZE = ("nonzero", "masked_select", "unique", "bincount")  # the host must ask how large they are


class Module(backend_registration._DummyBackendModule):
    """What torch asks of a backend that knows autocast."""

    @staticmethod
    def get_amp_supported_dtype() -> list[torch.dtype]:
        return [torch.bfloat16]

    @staticmethod
    def current_device() -> int:
        return 0


class Waits(TorchDispatchMode):
    """Counts what the host waits for: scalars that are read, copies to the host; sizes that depend on values are errors."""

    def __init__(self, fake: FakeTensorMode) -> None:
        super().__init__()
        self.fake, self.seen = fake, Counter[str]()

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
        made = func(*args, **kwargs)
        if name == "to_copy" and args[0].device.type == NAME and made.device.type == "cpu":
            self.seen["copy to the host"] += 1
        return made

    def _faked(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor if isinstance(tensor, FakeTensor) else self.fake.from_tensor(tensor)


def _by_mask(indices: Any) -> bool:
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)


@contextmanager
def fake_gpu() -> Iterator[Counter[str]]:
    """Inside, ``.to(DEVICE)`` gives tensors without values; what was waited for."""
    backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=Module())
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    waits = Waits(fake)

    def tolist(self: FakeTensor) -> Any:
        waits.seen["list"] += self.device.type == NAME
        value: Any = True if self.dtype == torch.bool else 1.0
        for size in reversed(self.shape):
            value = [value] * size
        return value

    with pytest.MonkeyPatch.context() as patch, fake, waits:
        patch.setattr(FakeTensor, "tolist", tolist)
        yield waits.seen
