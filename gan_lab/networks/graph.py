"""Trace a network to a list of torch operations, which runs without this package."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from gan_lab.networks.encoder import Encoder
from gan_lab.networks.layers import Network
from gan_lab.seeding import Stream

# maximum absolute difference between a network and its graph, for outputs in [-1, 1]
MAX_DIFFERENCE = 1e-5
# operations with several results, which are replaced by operations with one
BATCH_NORM = "aten._native_batch_norm_legit_no_training.default"
SPLIT_OPERATOR = "aten.split.Tensor"
# operations that do not change values
COPY_OPERATORS = ("aten.clone.default", "aten.contiguous.default", "aten.alias.default")
# inputs: names; steps: dicts of op, out and args; output: a name
Graph = dict[str, Any]


def trace(
    network: nn.Module, inputs: Mapping[str, Tensor], dynamic: Sequence[int]
) -> tuple[Graph, dict[str, Tensor]]:
    """Trace a network in eval mode to a graph of its first output.

    Args:
        network: The network.
        inputs: Example inputs by name.
        dynamic: Dimensions of the inputs whose size may vary; 0 is the batch.

    Returns:
        The graph, and the tensors it reads (weights, buffers and constants) by name. An argument of
        a step is a plain value, a list, or ``{"ref": name}`` of an input, a tensor or an earlier
        step.

    Raises:
        ValueError: The graph does not reproduce the network's output.
    """
    traced, tensors = trace_operations(network, inputs, dynamic)
    return _finish(traced, tensors, network, inputs)


def trace_operations(
    network: nn.Module, inputs: Mapping[str, Tensor], dynamic: Sequence[int]
) -> tuple[Graph, dict[str, Tensor]]:
    """Trace a network like ``trace``, but keep steps of weights alone, and do not check the graph.

    The graph depends on the network's recipe alone, not on its weights; see ``bind_weights``.
    """
    exported = export_program(network, inputs, dynamic).run_decompositions({})
    signature = exported.graph_signature
    names: dict[str, str] = {}
    tensors: dict[str, Tensor] = {}
    input_names = iter(inputs)
    for spec in signature.input_specs:
        name = str(spec.arg.name)
        names[name] = spec.target or next(input_names)
        if spec.target is not None:
            tensors[spec.target] = _get_tensor(exported, spec.target)
    steps: list[dict[str, Any]] = []
    for node in exported.graph.nodes:
        if node.op == "call_function" and str(node.target) in COPY_OPERATORS:
            names[node.name] = names[node.args[0].name]
        elif (
            node.op == "call_function"
            and not _is_assertion(node)
            and str(node.target) not in (BATCH_NORM, SPLIT_OPERATOR)
        ):
            steps.append(_convert_node(node, names))
        elif node.op == "output":
            output = names[node.args[0][0].name]
    return {"inputs": list(inputs), "steps": steps, "output": output}, tensors


def _finish(
    traced: Graph, tensors: dict[str, Tensor], network: nn.Module, inputs: Mapping[str, Tensor]
) -> tuple[Graph, dict[str, Tensor]]:
    """Fold the constants of a graph, and check that it reproduces the network's output."""
    steps, folded = _fold_constants(traced["steps"], tensors)
    graph: Graph = {**traced, "steps": steps}
    check_equivalence(
        network,
        lambda values: run_graph(graph, folded, values),
        make_other_inputs(inputs),
        "The traced graph",
    )
    return graph, folded


def bind_weights(
    graph: Graph,
    names: Sequence[str],
    constants: Mapping[str, Tensor],
    network: nn.Module,
    inputs: Mapping[str, Tensor],
) -> tuple[Graph, dict[str, Tensor]]:
    """Return the graph and tensors of ``trace`` for other weights of the same recipe.

    Tracing takes about a second, binding a few milliseconds.

    Args:
        graph: The graph of ``trace_operations``.
        names: The names of its tensors.
        constants: Those of its tensors that are neither weights nor buffers.
        network: A network of the same recipe.
        inputs: Example inputs by name.

    Raises:
        ValueError: The graph does not reproduce the network's output.
    """
    known = {**constants, **read_weights(network)}
    bound = {name: known[name].detach().contiguous() for name in names}
    return _finish(graph, bound, network, inputs)


def read_weights(network: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers of a network by name."""
    weights: dict[str, Tensor] = dict(network.named_parameters(remove_duplicate=False))
    return weights | dict(network.named_buffers(remove_duplicate=False))


def make_example_inputs(network: Network) -> tuple[dict[str, Tensor], list[int]]:
    """Return example inputs of a network by name, and their dynamic dimensions.

    The inputs are latents ``z`` [B, Z] and class weights ``y`` [B, classes]; or ``image``
    [B, C, H, W] in [-1, 1].
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


def export_program(
    network: nn.Module, inputs: Mapping[str, Tensor], dynamic: Sequence[int]
) -> torch.export.ExportedProgram:
    """Export a network with ``torch.export``, with dynamic dimensions of all inputs.

    The program has no stack traces: they contain the paths of source files on this machine, and
    both ``torch.export.save`` and ``torch.onnx.export`` write them.
    """
    shapes = {dimension: torch.export.Dim.DYNAMIC for dimension in dynamic}
    program = torch.export.export(
        network, tuple(inputs.values()), dynamic_shapes=tuple(shapes for _ in inputs), strict=False
    )
    for module in program.graph_module.modules():
        if isinstance(module, GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)
    return program


def run_graph(graph: Graph, tensors: Mapping[str, Tensor], inputs: Mapping[str, Tensor]) -> Tensor:
    """Run a traced graph; model cards contain the same ten lines."""
    values: dict[str, Any] = {**tensors, **inputs}

    for step in graph["steps"]:
        values[step["out"]] = _run_step(step, values)
    output: Tensor = values[graph["output"]]
    return output


def _run_step(step: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
    def resolve(argument: Any) -> Any:
        if isinstance(argument, dict):
            return values[argument["ref"]]
        if isinstance(argument, list):
            return [resolve(item) for item in argument]
        return argument

    namespace, name, overload = step["op"].split(".")
    operation = getattr(getattr(getattr(torch.ops, namespace), name), overload)
    return operation(*map(resolve, step["args"]))


def _list_references(argument: Any) -> list[str]:
    """List the names that an argument of a step, or all its arguments, refer to."""
    if isinstance(argument, dict):
        return [argument["ref"]]
    if isinstance(argument, list):
        return [name for item in argument for name in _list_references(item)]
    return []


def _fold_constants(
    steps: list[dict[str, Any]], tensors: dict[str, Tensor]
) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """Compute steps of weights alone, such as scaled weights, once; drop tensors without a use."""
    known: dict[str, Any] = dict(tensors)
    remaining = []
    for step in steps:
        names = _list_references(step["args"])
        if names and all(name in known for name in names):
            # cloned, since safetensors files refuse tensors that share memory
            known[step["out"]] = _run_step(step, known).clone(memory_format=torch.contiguous_format)
        else:
            remaining.append(step)
    used = {name for step in remaining for name in _list_references(step["args"])}
    return remaining, {name: value for name, value in known.items() if name in used}


def make_other_inputs(
    inputs: Mapping[str, Tensor], dynamic: Sequence[int] = (0,)
) -> dict[str, Tensor]:
    """Return random inputs of other sizes: a larger batch and, if dynamic, twice the height."""
    generator = torch.Generator().manual_seed(1)
    others = {}
    for name, value in inputs.items():
        other = torch.cat([value, value[:1]])
        if 2 in dynamic:
            other = torch.cat([other, other], dim=2)
        # class weights stay as they are
        others[name] = other if name == "y" else torch.randn(other.shape, generator=generator)
    return others


def check_equivalence(
    network: nn.Module,
    other: Callable[[dict[str, Tensor]], Tensor],
    inputs: dict[str, Tensor],
    name: str,
) -> None:
    """Check that ``other`` reproduces a network's first output.

    Args:
        network: The network.
        other: Function of the inputs by name.
        inputs: Inputs by name.
        name: Description of ``other``, for the error message.

    Raises:
        ValueError: The outputs differ by more than ``MAX_DIFFERENCE``, relative to the largest
            output if that is above 1.
    """
    with torch.no_grad():
        expected = network(*inputs.values())
        if isinstance(expected, tuple):
            expected = expected[0]
        difference = float((other(inputs) - expected).abs().max())
    # an encoder's latents are unbounded
    scale = max(1.0, float(expected.abs().max()))
    # The negation makes NaN fail too.
    if not difference <= MAX_DIFFERENCE * scale:
        raise ValueError(
            f"{name} differs from the network by {difference:.1e}, more than "
            f"{MAX_DIFFERENCE:.0e} of {scale:.3g}. Please report this"
        )


def _get_tensor(program: Any, name: str) -> Tensor:
    state = program.state_dict | program.constants
    tensor: Tensor = state[name]
    return tensor.detach().contiguous()


def _is_assertion(node: Node) -> bool:
    """Return True if a node checks shapes, or computes something only for such a check."""
    return not node.users or "assert" in str(node.target)


def _convert_node(node: Node, names: dict[str, str]) -> dict[str, Any]:
    """Convert a node to a step.

    Taking an item of a batch norm's outputs becomes ``aten.batch_norm``, and of a split's outputs
    ``aten.slice``.
    """
    names[node.name] = node.name
    operation, args = str(node.target), node.args
    if operation == "<built-in function getitem>":
        source, index = node.args
        assert isinstance(source, Node)
        assert isinstance(index, int)
        if str(source.target) == SPLIT_OPERATOR:
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
            f"Keyword arguments are not supported: {node.target}({dict(node.kwargs)}). "
            "Pass them by position in the network's forward"
        )
    return {
        "op": operation,
        "out": node.name,
        "args": [_convert_argument(arg, names) for arg in args],
    }


def _convert_argument(arg: Any, names: dict[str, str]) -> Any:
    if isinstance(arg, Node):
        return {"ref": names[arg.name]}
    if isinstance(arg, list | tuple):
        return [_convert_argument(item, names) for item in arg]
    if arg is None or isinstance(arg, bool | int | float | str):
        return arg
    raise ValueError(
        f"Arguments of type {type(arg).__name__} are not supported: {arg}. "
        "The graph is stored as JSON"
    )
