"""Exports: they reproduce the lab without it, and loading one runs nothing malicious."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from gan_lab import data as datasets
from gan_lab import load_generator, networks
from gan_lab.config import loading
from gan_lab.inference import export as exporting
from gan_lab.inference import onnx_export
from gan_lab.inference.export import export
from gan_lab.inference.translation import TrainedTranslator
from gan_lab.networks import graph
from gan_lab.runs.checkpoints import read_checkpoint
from gan_lab.runs.ema_networks import load_ema_networks
from gan_lab.training.builder import build_family
from tests.helpers.families import FAMILIES, experiment_of, small

# what a card says, run where there are torch and safetensors and no lab; its inputs are those of a
# file
ALONE = """
import sys, re, torch
for name in ("gan_lab", "lightning", "omegaconf", "torchvision", "numpy.testing"):
    sys.modules[name] = None
for folder in sys.argv[1:]:
    import os
    os.chdir(folder)
    for network in torch.load("inputs.pt"):
        card = open("README.md", encoding="utf-8").read()
        code = card.partition("```python\\n")[2].partition("```")[0]
        code = code.replace("generator", network)
        code = re.sub(r"[|] .*", "| torch.load('inputs.pt')['%s']" % network, code, count=1)
        exec(code)
        torch.save(result, network + ".result.pt")
"""


def make_run(family: str, root: Path, data_root: Path) -> Path:
    """A checkpoint of a family's generators, whose running statistics are not the initial ones."""
    config = loading.load(experiment_of(family), small(family, root, data_root)).config
    built = build_family(config, datasets.load(config.data, 0))
    ema, recipes = {}, {}
    generator = torch.Generator().manual_seed(0)
    for name in built.ema_networks:
        network = getattr(built, name)
        ema[name] = {
            key: value
            + 0.05 * torch.rand(value.shape, generator=generator).sub(0.0 if "var" in key else 0.5)
            if value.is_floating_point()
            else value
            for key, value in network.state_dict().items()
        }
        recipes[name] = network.recipe
    path = root / family / "best.ckpt"
    path.parent.mkdir(parents=True)
    torch.save({"iteration": 7, "ema": ema, "recipes": recipes, "state_dict": {}}, path)
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> dict[str, Path]:
    """The folder of an export of every family, with inputs and the outputs of the card's code."""
    root = tmp_path_factory.mktemp("exports")
    folders = {
        family: export(make_run(family, root, data_root), root / f"{family} exported")
        for family in FAMILIES
    }
    for folder in folders.values():
        content = read_checkpoint(folder / "config.json")
        inputs = {}
        for name, recipe in content["recipes"].items():
            some, _ = graph.make_example_inputs(networks.from_recipe(recipe))
            inputs[name] = {
                key: torch.cat([value, value.flip(0), value]) for key, value in some.items()
            }
        torch.save(inputs, folder / "inputs.pt")
    command = [sys.executable, "-c", ALONE, *map(str, folders.values())]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": ""})
    return folders


@pytest.mark.parametrize("family", FAMILIES)
def test_model_card_code_equals_the_networks_without_the_lab(
    exported: dict[str, Path], family: str
) -> None:
    folder = exported[family]
    content = read_checkpoint(folder / "config.json")
    inputs = torch.load(folder / "inputs.pt")
    assert len(inputs) == len(content["recipes"]) >= 1
    for name, recipe in content["recipes"].items():
        network = networks.from_recipe(recipe).requires_grad_(False).eval()
        network.load_state_dict(content["ema"][name])
        result = network(*inputs[name].values())
        expected = result[0] if isinstance(result, tuple) else result
        found = torch.load(folder / f"{name}.result.pt")
        assert len(found) == 6
        torch.testing.assert_close(
            found, expected, rtol=0, atol=1e-5 * max(1.0, float(expected.abs().max()))
        )
        assert float(expected.std(dim=0).max()) > 1e-3  # not one image for all inputs


@pytest.mark.parametrize(
    "family", [name for name in FAMILIES if not loading.family_class(name).image_to_image]
)
def test_the_lab_reads_what_it_wrote(exported: dict[str, Path], family: str) -> None:
    folder = exported[family]
    assert (
        len({path.stat().st_mode for path in folder.iterdir() if path.suffix != ".pt"}) == 1
    )  # as readable as each other
    before = load_generator(folder.parent / family / "best.ckpt")(8, seed=3)
    assert torch.equal(load_generator(folder)(8, seed=3), before)


def test_translators_are_read_too_in_both_directions(exported: dict[str, Path]) -> None:
    image = torch.rand(1, 1, 28, 36) * 2 - 1
    for direction in ("AtoB", "BtoA"):
        folder = exported["cyclegan"]
        before = TrainedTranslator(folder.parent / "cyclegan" / "best.ckpt", direction)(image)
        assert torch.equal(TrainedTranslator(folder / "config.json", direction)(image), before)


def test_a_program_of_torch_export_makes_the_same(
    exported: dict[str, Path], tmp_path: Path
) -> None:
    folder = exported["cgan"]
    out = export(folder.parent / "cgan" / "best.ckpt", tmp_path / "program", "torch")
    inputs = torch.load(folder / "inputs.pt")["generator"]
    result = torch.export.load(out / "generator.pt2").module()(*inputs.values())
    torch.testing.assert_close(
        result, torch.load(folder / "generator.result.pt"), rtol=0, atol=1e-5
    )


# the other lines of a card, where there are onnxruntime and numpy and no torch
WITHOUT_TORCH = """
import sys, re
for name in ("gan_lab", "torch", "onnx"):
    sys.modules[name] = None
import numpy
card = open("README.md", encoding="utf-8").read()
code = card.partition("```python\\nimport numpy")[2].partition("```")[0]
for network in sys.argv[1:]:
    given = "dict(numpy.load('%s.npz'))" % network
    own = code.replace("generator", network)
    exec("import numpy" + re.sub(r"None, .*[)]  #", "None, " + given + ")  #", own))
    numpy.save(network + ".npy", result)
"""


def kinds_of(folder: Path) -> set[tuple[str, bool]]:
    """The kinds of the networks of an export, and whether they know classes."""
    recipes = read_checkpoint(folder / "config.json")["recipes"].values()
    return {(recipe["network"], bool(recipe["arguments"].get("classes"))) for recipe in recipes}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_card_s_other_lines_run_the_onnx_files_without_torch(
    exported: dict[str, Path], family: str, tmp_path: Path
) -> None:
    kinds = {name: kinds_of(folder) for name, folder in exported.items()}
    if (first := next(name for name in FAMILIES if kinds[name] == kinds[family])) != family:
        pytest.skip(f"the networks of {first}")  # an export takes seconds
    out = export(exported[family].parent / family / "best.ckpt", tmp_path / "onnx", "onnx")
    given, expected = {}, {}
    for name, network in load_ema_networks(out).networks.items():
        # stack traces have paths of this machine
        assert b".py" not in (out / f"{name}.onnx").read_bytes()
        inputs, dynamic = graph.make_example_inputs(network)
        given[name] = graph.make_other_inputs(graph.make_other_inputs(inputs, dynamic))
        np.savez(
            out / f"{name}.npz", **{side: value.numpy() for side, value in given[name].items()}
        )
        made = network(*given[name].values())
        expected[name] = made[0] if isinstance(made, tuple) else made
    command = [sys.executable, "-c", WITHOUT_TORCH, *expected]
    subprocess.run(command, check=True, cwd=out, env={**os.environ, "PYTHONPATH": ""})
    for name, images in expected.items():
        bound = 1e-5 * max(1.0, float(images.abs().max()))
        torch.testing.assert_close(
            torch.from_numpy(np.load(out / f"{name}.npy")), images, rtol=0, atol=bound
        )


def test_an_onnx_file_that_is_not_the_network_is_not_written(
    exported: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "run", lambda path, inputs: torch.zeros(3, 1, 28, 28))
    with pytest.raises(
        ValueError, match=r"The ONNX file differs from the network by .*, more than 1e-05"
    ):
        export(exported["gan"].parent / "gan" / "best.ckpt", tmp_path / "wrong", "onnx")
    assert not (tmp_path / "wrong").exists()


@pytest.mark.parametrize("package", onnx_export.REQUIRED_PACKAGES)
def test_export_without_its_package_fails_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ValueError,
        match=rf"^format=onnx: the package {package} is not installed: make extras, or pip install",
    ):
        export(tmp_path / "no run", tmp_path / "out", "onnx")


def test_an_export_replaces_an_export_and_nothing_else(
    exported: dict[str, Path], tmp_path: Path
) -> None:
    checkpoint = exported["gan"].parent / "gan" / "best.ckpt"
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(ValueError, match=r"mine is not empty: .* is not output"):
        export(checkpoint, mine)
    (mine / "config.json").write_text('{"mine": 1}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"mine is not empty: .* is not output"):
        export(checkpoint, mine)
    assert (mine / "thesis.txt").is_file()
    out = export(checkpoint, tmp_path / "out")
    (out / "notes.txt").write_text("which samples are good", encoding="utf-8")
    with pytest.raises(ValueError, match=r"is not empty: notes\.txt is not output"):
        export(checkpoint, out)
    (out / "notes.txt").unlink()
    (out / "generator.safetensors").unlink()
    assert (export(checkpoint, out) / "generator.safetensors").is_file()
    with pytest.raises(
        ValueError, match=r"Unknown export format: onyx\. Choose safetensors or torch or onnx"
    ):
        export(checkpoint, out, "onyx")


def test_a_list_that_is_not_the_network_is_not_written(
    exported: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        exporting.graph, "run_graph", lambda graph, tensors, inputs: torch.zeros(3, 1, 28, 28)
    )
    with pytest.raises(ValueError, match=r"The traced graph differs from the network"):
        export(exported["gan"].parent / "gan" / "best.ckpt", tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()


def _config(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        change(config)
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")

    return spoil


def _weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        weights = load_file(folder / "generator.safetensors")
        change(weights)
        save_file(weights, folder / "generator.safetensors")

    return spoil


def _pickled(folder: Path) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(folder / "executed"),))

    (folder / "generator.safetensors").write_bytes(pickle.dumps(Hostile()))


def _ten_gigabytes(folder: Path) -> None:
    header = json.dumps(
        {"layers.0.weight": {"dtype": "F32", "shape": [50000, 50000], "data_offsets": [0, 10**10]}}
    ).encode()
    (folder / "generator.safetensors").write_bytes(
        struct.pack("<Q", len(header)) + header + b"\0" * 64
    )


def _linked(folder: Path) -> None:
    (folder / "generator.safetensors").rename(folder.parent / "elsewhere.safetensors")
    (folder / "generator.safetensors").symlink_to(folder.parent / "elsewhere.safetensors")


HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "a pickle": (_pickled, "."),
    "ten gigabytes in a header": (_ten_gigabytes, "."),
    "a header without end": (
        lambda folder: (folder / "generator.safetensors").write_bytes(struct.pack("<Q", 2**60)),
        ".",
    ),
    "a link": (_linked, "is a symbolic link"),
    "no weights": (lambda folder: (folder / "generator.safetensors").unlink(), "."),
    "another shape": (
        _weights(lambda w: w.update({"layers.0.weight": torch.zeros(3)})),
        r"layers\.0\.weight is \(3,\)",
    ),
    "a weight less": (
        _weights(lambda w: w.pop("layers.0.weight")),
        r"layers\.0\.weight is missing",
    ),
    "no number": (_weights(lambda w: w["layers.0.weight"].fill_(torch.nan)), "contains NaN or Inf"),
    "an infinite one": (
        _weights(lambda w: w["layers.0.weight"][0].fill_(torch.inf)),
        "contains NaN or Inf",
    ),
    "a way out": (
        _config(lambda c: c["networks"].update({"../../gan/best": c["networks"]["generator"]})),
        "not a valid name of a network",
    ),
    "a huge network": (
        _config(lambda c: c["networks"]["generator"]["recipe"]["arguments"].update(width=10**9)),
        "more than 10,000",
    ),
    "a network of nobody": (
        _config(lambda c: c["networks"]["generator"]["recipe"].update(network="os.system")),
        "does not name a network",
    ),
    "another format": (_config(lambda c: c.update(format="torch")), "does not have the format"),
    "no object": (
        lambda folder: (folder / "config.json").write_text("[1, 2]", encoding="utf-8"),
        "does not have the format",
    ),
    "no JSON": (lambda folder: (folder / "config.json").write_text("{", encoding="utf-8"), "."),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_export_is_one_line_and_runs_nothing(
    exported: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    spoil, message = HOSTILE[kind]
    folder = Path(shutil.copytree(exported["gan"], tmp_path / "hostile"))
    spoil(folder)
    with pytest.raises(ValueError, match=f"not a usable export of this lab.*{message}") as raised:
        load_generator(folder)
    assert len(str(raised.value).splitlines()) == 1
    assert not (folder / "executed").exists()
