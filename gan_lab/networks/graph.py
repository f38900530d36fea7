"""A network as a list of operations of torch, which runs without the code that it was made by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from gan_lab.networks.encoder import Encoder
from gan_lab.networks.layers import Network
from gan_lab.seeding import Stream

CLOSE = 1e-5  # between the network and its list, of images in [-1, 1]
# of several results, which become operations of one
BATCH_NORM, SPLIT = "aten._native_batch_norm_legit_no_training.default", "aten.split.Tensor"
COPIES = ("aten.clone.default", "aten.contiguous.default", "aten.alias.default")  # of equal values
Graph = dict[str, Any]  # inputs: their names; steps: op, out and args each; output: a name


def trace(
    network: nn.Module, inputs: Mapping[str, Tensor], dynamic: Sequence[int]
) -> tuple[Graph, dict[str, Tensor]]:
    """The operations of a network in evaluation mode, to its first result, and the tensors that they read.

    ``dynamic`` are the sides of the inputs, 0 for the batch, that may have another length later. An argument is a plain
    value, a list, or ``{"ref": name}`` of an input, of a tensor or of an earlier step. Raises ValueError where the list
    does not give what the network does.
    """
    exported = program(network, inputs, dynamic).run_decompositions({})
    signature = exported.graph_signature
    names: dict[str, str] = {}
    tensors: dict[str, Tensor] = {}
    given = iter(inputs)
    for spec in signature.input_specs:
        name = str(spec.arg.name)
        names[name] = spec.target or next(given)
        if spec.target is not None:
            tensors[spec.target] = _tensor(exported, spec.target)
    steps: list[dict[str, Any]] = []
    for node in exported.graph.nodes:
        if node.op == "call_function" and str(node.target) in COPIES:
            names[node.name] = names[node.args[0].name]
        elif (
            node.op == "call_function"
            and not _is_aside(node)
            and str(node.target) not in (BATCH_NORM, SPLIT)
        ):
            steps.append(_step(node, names))
        elif node.op == "output":
            output = names[node.args[0][0].name]
    graph: Graph = {"inputs": list(inputs), "steps": steps, "output": output}
    check(
        network, lambda given: run(graph, tensors, given), fresh(inputs), "the list of operations"
    )
    return graph, tensors


def example(network: Network) -> tuple[dict[str, Tensor], list[int]]:
    """Inputs of a network by their names, and which of their sides may have another length.

    ``z`` [B, Z] latents and ``y`` [B, classes] weights of the classes; or ``image`` [B, C, H, W] in [-1, 1].
    """
    arguments = network.recipe["arguments"]
    if "z_dim" in arguments and not isinstance(network, Encoder):
        inputs = {"z": network.sample_latents(Stream(0, "export"), 2, like=torch.zeros(0))}
        if classes := arguments.get("classes"):
            inputs["y"] = torch.eye(classes)[[0, classes - 1]]
        return inputs, [0]
    channels, height, width = arguments["shape"]
    translator = "source_channels" in arguments
    shape = (2, arguments["source_channels"] if translator else channels, height, width)
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return {"image": image}, [0, 2, 3] if translator else [0]


def program(
    network: nn.Module, inputs: Mapping[str, Tensor], dynamic: Sequence[int]
) -> torch.export.ExportedProgram:
    """The network as ``torch.export`` has it, with sides of the inputs left free."""
    free = {side: torch.export.Dim.DYNAMIC for side in dynamic}
    return torch.export.export(
        network, tuple(inputs.values()), dynamic_shapes=tuple(free for _ in inputs), strict=False
    )


def run(graph: Graph, tensors: Mapping[str, Tensor], inputs: Mapping[str, Tensor]) -> Tensor:
    """Run the operations, each in its turn: what a model card does in ten lines."""
    values: dict[str, Any] = {**tensors, **inputs}

    def value(x: Any) -> Any:
        if isinstance(x, dict):
            return values[x["ref"]]
        return [value(each) for each in x] if isinstance(x, list) else x

    for step in graph["steps"]:
        namespace, name, overload = step["op"].split(".")
        operation = getattr(getattr(getattr(torch.ops, namespace), name), overload)
        values[step["out"]] = operation(*map(value, step["args"]))
    result: Tensor = values[graph["output"]]
    return result


def fresh(inputs: Mapping[str, Tensor], dynamic: Sequence[int] = (0,)) -> dict[str, Tensor]:
    """Other inputs, one more in the batch, and where sides of images are free, twice as high."""
    generator = torch.Generator().manual_seed(1)
    made = {name: torch.cat([x, x[:1]]) for name, x in inputs.items()}
    made = {name: torch.cat([x, x], dim=2) if 2 in dynamic else x for name, x in made.items()}
    return {
        name: x if name == "y" else torch.randn(x.shape, generator=generator)
        for name, x in made.items()
    }


def check(
    network: nn.Module,
    other: Callable[[dict[str, Tensor]], Tensor],
    inputs: dict[str, Tensor],
    name: str,
) -> None:
    """Raise ValueError if ``other`` makes something else of the inputs than the network's first result."""
    with torch.no_grad():
        expected = network(*inputs.values())
        expected = expected[0] if isinstance(expected, tuple) else expected
        apart = float((other(inputs) - expected).abs().max())
    scale = max(1.0, float(expected.abs().max()))  # latents have no bound
    if not apart <= CLOSE * scale:
        raise ValueError(
            f"{name} is {apart:.1e} from the network, more than {CLOSE:.0e} of {scale:.3g}"
        )


def _tensor(program: Any, name: str) -> Tensor:
    state = program.state_dict | program.constants
    tensor: Tensor = state[name]
    return tensor.detach().contiguous()


def _is_aside(node: Node) -> bool:
    """Checks of shapes, which no result reads."""
    return not node.users or "assert" in str(node.target)


def _step(node: Node, names: dict[str, str]) -> dict[str, Any]:
    """One operation; of a batch norm's results the first is torch's plain one, those of a split are slices."""
    names[node.name] = node.name
    operation, args = str(node.target), node.args
    if operation == "<built-in function getitem>":
        source, index = node.args
        assert isinstance(source, Node)
        assert isinstance(index, int)
        if str(source.target) == SPLIT:
            x, size, side = (*source.args, 0)[:3]
            operation, args = "aten.slice.Tensor", (x, side, index * size, (index + 1) * size)  # type: ignore[operator]
        else:
            x, weight, bias, mean, variance, momentum, eps = source.args
            operation, args = (
                "aten.batch_norm.default",
                (x, weight, bias, mean, variance, False, momentum, eps, False),
            )
    if node.kwargs:
        raise ValueError(
            f"{node.target} has arguments by name, which the list of operations has no place for"
        )
    return {"op": operation, "out": node.name, "args": [_plain(arg, names) for arg in args]}


def _plain(arg: Any, names: dict[str, str]) -> Any:
    if isinstance(arg, Node):
        return {"ref": names[arg.name]}
    if isinstance(arg, list | tuple):
        return [_plain(each, names) for each in arg]
    if arg is None or isinstance(arg, bool | int | float | str):
        return arg
    raise ValueError(f"an operation's argument is a {type(arg).__name__}, which JSON does not have")
