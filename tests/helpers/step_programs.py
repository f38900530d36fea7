"""CUDA graphs without a GPU: a step's operations are recorded and repeated on its tensors.

Like a CUDA graph, a replay calls no Python of the step: what the step computed on the host, or
drew, is in it as it was at the capture.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map_only

# which batch norm changes in place, without saying so in its schema
BATCH_NORM_STATISTICS = ("running_mean", "running_var")


class Recording(TorchDispatchMode):
    """Records every operation with its arguments and results."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []
        # tensors before they were changed in place, in order
        self._before: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        named = dict(zip([each.name for each in func._schema.arguments], args, strict=False))
        for argument in func._schema.arguments:
            is_write = argument.alias_info is not None and argument.alias_info.is_write
            if is_write or argument.name in BATCH_NORM_STATISTICS:
                changed = tree_leaves(named.get(argument.name, kwargs.get(argument.name)))
                self._before += [(each, each.clone()) for each in changed if is_tensor(each)]
        result = func(*args, **kwargs)
        if func is torch.ops.aten._local_scalar_dense.default:
            # one_hot asks for the largest label, on a CPU alone
            assert not args[0].dtype.is_floating_point, "the step reads a number of the device"
        elif func.namespace != "profiler":
            self.operations.append((func, args, kwargs, result))
        return result

    def undo(self) -> None:
        """Give every tensor the values that it had before the recording."""
        with torch.no_grad():
            for tensor, before in reversed(self._before):
                tensor.copy_(before)
        self._before = []

    def replay(self) -> None:
        """Repeat the operations; each result goes to the tensor that it had in the recording."""
        with torch.no_grad():
            for func, args, kwargs, recorded in self.operations:
                if is_view(func):
                    # it shows the memory of a tensor that is recomputed
                    continue
                results = func(*args, **kwargs)
                for old, new in zip(tree_leaves(recorded), tree_leaves(results), strict=True):
                    if is_tensor(old) and old is not new:
                        old.copy_(new)

    def describe(self) -> list[str]:
        """Describe each operation by its name, shapes of tensors and other arguments."""
        lines = []
        for func, args, kwargs, _ in self.operations:
            leaves, _ = tree_flatten((args, kwargs))
            shown = tree_map_only(Tensor, lambda tensor: tuple(tensor.shape), leaves)
            lines.append(f"{func} {shown}")
        return lines


def is_tensor(value: Any) -> bool:
    """Return True for tensors, not for missing ones."""
    return isinstance(value, Tensor)


def is_view(func: Any) -> bool:
    """Return True for an operation whose results are views of its arguments."""
    returns = func._schema.returns
    return bool(returns) and all(
        each.alias_info is not None and not each.alias_info.is_write for each in returns
    )


class ProgramRecorder:
    """A recorder of ``step_graph`` for the CPU."""

    def __init__(self, device: torch.device) -> None:
        pass

    def warm_up(self, run: Callable[[], None]) -> None:
        run()

    def capture(self, run: Callable[[], None]) -> Callable[[], None]:
        """Record the function, and undo what it has computed."""
        recording = Recording()
        before = torch.get_rng_state()
        with recording:
            run()
        recording.undo()
        torch.set_rng_state(before)
        return recording.replay
