"""The card of an exported model: its data and scores, and how to run it without the lab."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gan_lab.config import plain_yaml
from gan_lab.degradations import Degradation
from gan_lab.report.embedding import SCRIPT_NAME, choose_snippet

PAGE_NAME = "index.html"
# Repositories of data sets on the Hugging Face hub, by data.name. Other names are no repositories.
HUB_DATASETS = {"mnist": "ylecun/mnist", "cifar10": "uoft-cs/cifar10"}
LOADING_CODE = """import json, torch
from safetensors.torch import load_file

graph = json.load(open("config.json"))["networks"]["NETWORK"]["graph"]
values = load_file("NETWORK.safetensors") | INPUTS
value = lambda x: values[x["ref"]] if isinstance(x, dict) else \
[*map(value, x)] if isinstance(x, list) else x
for step in graph["steps"]:
    namespace, name, overload = step["op"].split(".")
    operation = getattr(getattr(getattr(torch.ops, namespace), name), overload)
    values[step["out"]] = operation(*map(value, step["args"]))
result = values[graph["output"]]  # MEANING
"""

ONNX_CODE = """import numpy as np, onnxruntime

session = onnxruntime.InferenceSession("NETWORK.onnx")
result, *_ = session.run(None, INPUTS)  # MEANING
"""
TORCH_INPUTS = {
    "z": "torch.randn(16, {})",
    "y": "torch.eye({0})[torch.arange(16) % {0}]",
    "image": "torch.rand(1, {}) * 2 - 1",
}
NUMPY_INPUTS = {
    "z": 'np.random.randn(16, {}).astype("float32")',
    "y": 'np.eye({0}, dtype="float32")[np.arange(16) % {0}]',
    "image": 'np.random.rand(1, {}).astype("float32") * 2 - 1',
}


def load_code(name: str, described: dict[str, Any], template: str = LOADING_CODE) -> str:
    """Format the lines that run a network of an export without the lab, by one of the templates."""
    code, arguments = (
        NUMPY_INPUTS if template == ONNX_CODE else TORCH_INPUTS,
        described["recipe"]["arguments"],
    )
    sides = {side: ", ".join(map(str, shape)) for side, shape in described["inputs"].items()}
    inputs = ", ".join(f'"{side}": {code[side].format(shape)}' for side, shape in sides.items())
    if "z" in sides:
        meaning = f"images [16, {', '.join(map(str, arguments['shape']))}] in [-1, 1]"
    else:
        meaning = (
            "images in [-1, 1]"
            if "source_channels" in arguments
            else f"latents [1, {arguments['z_dim']}]"
        )
    lines = template.replace("NETWORK", name).replace("MEANING", meaning)
    return lines.replace("INPUTS", "{" + inputs + "}")


def format_card(
    config: dict[str, Any], also: str, attachments: Sequence[str] = (), is_raw: bool = False
) -> str:
    """Write the card in Markdown, with the front matter that model hubs read.

    Args:
        config: The content of ``config.json``.
        also: The format in addition to the weights.
        attachments: Names of pictures and of the page.
        is_raw: Whether the weights are the raw ones, without EMA.
    """
    name = next(iter(config["networks"]))
    scores = [
        f"| `{score}` | {each['value']:.4g} | {_protocol(each.get('protocol', {}))} |"
        for score, each in config["scores"].items()
        if isinstance(each.get("value"), int | float)
    ]
    source = f" of {_code_span(config['command'])}" if config["command"] else ""
    metadata = build_metadata(config)
    if PAGE_NAME in attachments:
        # of a static Space
        metadata |= {"title": Path(config["experiment"]).stem, "sdk": "static"}
    networks = ", ".join(f"`{each}`" for each in config["networks"])
    kind = "raw weights (without EMA)" if is_raw else "EMA weights"
    about = (
        f"A generative adversarial network of the GAN lab {config['lab']}: {kind} after "
        f"{config['iteration']:,} iterations{source}. Networks: {networks}."
    )
    license_note = []
    if origin := config.get("source"):
        about = (
            f"A StyleGAN2 generator (EMA weights), imported by the GAN lab {config['lab']} from "
            f"{_code_span(origin['file'])}, SHA-256 {_code_span(origin['sha256'])}. "
            f"Nothing in that file was executed. Networks: {networks}."
        )
        license_note = [
            "**License.** The weights are under the license of their authors, not of the lab. "
            "Look it up before you use or publish them."
        ]
    parts = [
        f"---\n{plain_yaml.write(metadata)}---",
        f"# {_escape(config['experiment'])}",
        about,
        *license_note,
        *(f"![samples of the last grid of the training]({each})"
          for each in attachments if each.endswith(".png")),
        *([f"[{PAGE_NAME}]({PAGE_NAME}) shows the run, with the generator running in the browser. "
           "Open it from disk, or serve this folder as it is: with GitHub Pages, "
           "or as a static Space of the Hugging Face Hub."]
          if PAGE_NAME in attachments else []),
        *([f"[{SCRIPT_NAME}]({SCRIPT_NAME}) brings the generator into another page:\n\n```html\n"
           + choose_snippet(config["networks"]["generator"]["recipe"]["arguments"]) + "```"]
          if SCRIPT_NAME in attachments else []),
        f"**Data.** {_escape(config['data'])}.",
        *_describe_inputs(config),
        "**Scores.**\n\n| score | value | measured on |\n|---|---|---|\n" + "\n".join(scores)
        if scores else "**Scores.** None were measured.",
        "**Limits.** It makes images like those it learned from, and carries what is wrong with "
        "them; some samples are wrong or near copies, and the scores say how many on average. "
        "Images are float32 in [-1, 1].",
        *(["**Directions** of the latents, in `directions.json`: "
           + ", ".join(_code_span(each) for each in config["directions"])
           + ". With the lab: `gan_lab.load_generator(folder)(n=16, move={\"pc1\": 2})`."]
          if config.get("directions") else []),
        "**Without the lab**, with torch and safetensors, in this folder:\n\n```python\n"
        + load_code(name, config["networks"][name]) + "```",
        *(["**With onnxruntime and numpy**:\n\n```python\n"
           + load_code(name, config["networks"][name], ONNX_CODE) + "```"]
          if also == "onnx" else []),
        "**With it:** `gan_lab.load_generator(folder)(n=16)`, or `gan-lab sample folder`; a "
        "translator by `gan-lab translate folder IN OUT`.",
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def build_metadata(config: dict[str, Any]) -> dict[str, Any]:
    """Build the front matter of the card: the task, the data set and the scores.

    There is no license, because neither the lab nor the training data give the weights one.

    Source: the Hugging Face hub's model card specification (``modelcard.md`` of hub-docs).
    """
    arguments = [network["recipe"]["arguments"] for network in config["networks"].values()]
    if any("source_channels" in each for each in arguments):
        task = "image-to-image"
    else:
        task = "unconditional-image-generation"
    metadata: dict[str, Any] = {
        "library_name": "pytorch",
        "pipeline_tag": task,
        "tags": ["gan", "image-generation"],
    }
    results: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for name, score in config["scores"].items():
        value, protocol = score.get("value"), score.get("protocol", {})
        # scores of baselines have no direction, and are not the model's
        is_own = score.get("higher_is_better") is not None and "data" in protocol
        if is_own and isinstance(value, int | float) and math.isfinite(value):
            measured_on = (protocol["data"], protocol.get("split", ""))
            results.setdefault(measured_on, []).append(
                {"type": name, "value": float(f"{value:.4g}")}
            )
    # data is "mnist-sample": data.name, and the source that it was read from
    names = {data: data.partition("-")[0] for data, _ in results}
    if known := sorted({HUB_DATASETS[name] for name in names.values() if name in HUB_DATASETS}):
        metadata["datasets"] = known
    if results:
        metadata["model-index"] = [
            {
                "name": Path(config["experiment"]).stem,
                "results": [
                    {
                        "task": {"type": task},
                        "dataset": {
                            "type": HUB_DATASETS.get(names[data], names[data]),
                            "name": data,
                            "split": split,
                        },
                        "metrics": metrics,
                    }
                    for (data, split), metrics in results.items()
                ],
            }
        ]
    return metadata


def _describe_inputs(config: dict[str, Any]) -> list[str]:
    """Describe the inputs of a network that restores images."""
    degradation = Degradation.from_record(config.get("degradation"))
    texts = {
        "mask": "The last channel is a mask: 1 where a pixel is to be filled, -1 elsewhere. The "
        "other channels are the image, with 0 in the hole. `gan-lab translate --mask` makes such "
        "inputs.",
        "downsample": f"A small image, enlarged {degradation.factor} times by bicubic "
        "interpolation (Pillow's BICUBIC). `gan-lab translate` enlarges small images so.",
        "noise": "An image with noise.",
        "edges": "The edges of an image, as dark lines on white.",
    }
    return [f"**Inputs.** {texts[degradation.kind]}"] if degradation.kind in texts else []


def _escape(text: str) -> str:
    """Escape text for Markdown, so that a name with ``<b>`` or ``[x]`` is shown as it is."""
    return re.sub(r"([\\`*\[\]<>|&#~$])", r"\\\1", text)


def _code_span(text: str) -> str:
    """Format text as code, between more backticks than it has in a row."""
    runs = [len(run) for run in re.findall("`+", text)]
    fence = "`" * (max(runs, default=0) + 1)
    padding = " " if runs else ""
    return f"{fence}{padding}{text}{padding}{fence}"


def _protocol(protocol: dict[str, Any]) -> str:
    fakes, reals = protocol.get("fakes", "?"), protocol.get("reals", "?")
    return f"{fakes} fakes, {reals} reals ({protocol.get('split', '?')})"
