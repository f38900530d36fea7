"""The card of an exported model: what it is, of which data, how good, and how to run it without the lab."""

from __future__ import annotations

from typing import Any

LOAD = """import json, torch
from safetensors.torch import load_file

graph = json.load(open("config.json"))["networks"]["NETWORK"]["graph"]
values = load_file("NETWORK.safetensors") | INPUTS
value = lambda x: values[x["ref"]] if isinstance(x, dict) else [*map(value, x)] if isinstance(x, list) else x
for step in graph["steps"]:
    namespace, name, overload = step["op"].split(".")
    operation = getattr(getattr(getattr(torch.ops, namespace), name), overload)
    values[step["out"]] = operation(*map(value, step["args"]))
result = values[graph["output"]]  # MEANING
"""


def load_code(name: str, described: dict[str, Any]) -> str:
    """The lines that run a network with torch and safetensors alone, in the folder of the export."""
    sides, arguments = described["inputs"], described["recipe"]["arguments"]
    if "z" in sides:
        inputs = f'{{"z": torch.randn(16, {sides["z"][0]})'
        if "y" in sides:
            inputs += f', "y": torch.eye({sides["y"][0]})[torch.arange(16) % {sides["y"][0]}]'
        inputs, meaning = inputs + "}", f"images [16, {', '.join(map(str, arguments['shape']))}] in [-1, 1]"
    else:
        inputs = f'{{"image": torch.rand(1, {", ".join(map(str, sides["image"]))}) * 2 - 1}}'
        meaning = "images in [-1, 1]" if "source_channels" in arguments else f"latents [1, {arguments['z_dim']}]"
    return LOAD.replace("NETWORK", name).replace("INPUTS", inputs).replace("MEANING", meaning)


def text(config: dict[str, Any]) -> str:
    """The card in Markdown, with the head that model hubs read."""
    name = next(iter(config["networks"]))
    scores = [
        f"| `{score}` | {each['value']:.4g} | {_protocol(each.get('protocol', {}))} |"
        for score, each in config["scores"].items()
        if isinstance(each.get("value"), int | float)
    ]
    of = f" of `{config['command']}`" if config["command"] else ""
    parts = [
        "---\nlibrary_name: pytorch\ntags: [gan, image-generation]\n---",
        f"# {config['experiment']}",
        f"A generative adversarial network of the GAN lab {config['lab']}: averaged weights after "
        f"{config['iteration']:,} iterations{of}. "
        f"Networks: {', '.join(f'`{each}`' for each in config['networks'])}.",
        f"**Data.** {config['data']}.",
        "**Scores.**\n\n| score | value | measured on |\n|---|---|---|\n" + "\n".join(scores) if scores else
        "**Scores.** None were measured.",
        "**Limits.** It makes images like those it learned from, and carries what is wrong with them; some samples are "
        "wrong or near copies, and the scores say how many on average. Images are float32 in [-1, 1].",
        "**Without the lab**, with torch and safetensors, in this folder:\n\n```python\n"
        + load_code(name, config["networks"][name]) + "```",
        "**With it:** `gan_lab.load_generator(folder)(n=16)`, or `gan-lab sample folder`; a translator by `gan-lab "
        "translate folder IN OUT`.",
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _protocol(protocol: dict[str, Any]) -> str:
    return f"{protocol.get('fakes', '?')} fakes, {protocol.get('reals', '?')} reals ({protocol.get('split', '?')})"
