"""Write a network as ONNX, which runs without torch, and hold it to the network by onnxruntime."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gan_lab.networks import graph
from gan_lab.networks.layers import Network
from gan_lab.utils.errors import import_extra

REQUIRED_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def check_installed() -> None:
    """Raise ValueError where a package of the extra ``onnx`` is missing."""
    for package in REQUIRED_PACKAGES:
        import_extra(package, "onnx", "format=onnx")


def write(
    network: Network, inputs: Mapping[str, Tensor], dynamic: Sequence[int], path: Path
) -> None:
    """Write a network into one file, with the ``dynamic`` sides of its inputs free.

    Raises ValueError where onnxruntime makes of fresh inputs, of other lengths of these sides,
    something else than the network does, by more than ``graph.MAX_DIFFERENCE``.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself
        exported = torch.onnx.export(
            graph.export_program(network, inputs, dynamic),
            dynamo=True,
            input_names=list(inputs),
            output_names=["result"],
            external_data=False,
            verbose=False,
        )
    assert exported is not None
    exported.save(str(path))
    graph.check_equivalence(
        network,
        lambda given: run(path, given),
        graph.make_other_inputs(inputs, dynamic),
        "The ONNX file",
    )


def run(path: Path, inputs: Mapping[str, Tensor]) -> Tensor:
    """Run a file by onnxruntime on the CPU; its first result."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    results = session.run(None, {name: np.asarray(value) for name, value in inputs.items()})
    return torch.from_numpy(results[0])
