"""Snapshots of the StyleGAN2-ADA authors: read as data, and hostile ones refused in one line."""

from __future__ import annotations

import io
import json
import os
import pickle
import pickletools
import resource
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from typer.testing import CliRunner

from gan_lab import load_generator
from gan_lab.cli import app
from gan_lab.config.schema import EmaConfig
from gan_lab.families.stylegan2 import StyleGAN2
from gan_lab.inference.export import export
from gan_lab.networks import graph
from gan_lab.runs import snapshot_pickle
from gan_lab.runs.snapshots import hash_snapshot, read_snapshot
from gan_lab.training.callbacks.ema import EMA
from gan_lab.training.callbacks.progress import Progress
from gan_lab.training.warm_start import load_matching_weights
from gan_lab.utils.errors import UserError
from tests.helpers.snapshots import (
    EasyDict,
    Persistent,
    add_stylegan3_attributes,
    authors_modules,
    build_networks,
    describe_network,
    write_snapshot,
)

AUTHORS = Path(__file__).parents[3] / "shared" / "stylegan2"
EMPTY: dict[str, Any] = {"_parameters": {}, "_buffers": {}, "_modules": {}}


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    kwargs = EasyDict(path="x", resolution=16, scale=np.float64(0.5), empty=None)
    return write_snapshot(
        tmp_path_factory.mktemp("snapshot") / "own.pkl", training_set_kwargs=kwargs
    )


def test_snapshot_has_the_weights_of_all_networks(snapshot: Path) -> None:
    """Its source code was not executed: it would raise an error."""
    content = read_snapshot(snapshot)
    (G, D), (raw, _) = build_networks(), build_networks(seed=1)
    for found, network in ((content["ema"]["generator"], G), (content["state_dict"], raw)):
        for name, value in network.state_dict().items():
            key = name if network is G else f"generator.{name}"
            assert torch.equal(found[key], value), name
    for name, value in D.state_dict().items():
        assert torch.equal(content["state_dict"][f"discriminator.{name}"], value), name
    arguments = content["recipes"]["generator"]["arguments"]
    assert (arguments["width"], arguments["max_width"], arguments["clamp"]) == (3, 6, 2.0)


@torch.no_grad()
def test_imported_generator_makes_the_same_images(snapshot: Path, tmp_path: Path) -> None:
    """From the snapshot, from its export, and from the recipe in the export without the lab."""
    G, _ = build_networks()
    z, labels = torch.randn(4, 5), [1, 0, 1, 1]
    expected = G(z, torch.tensor(labels))
    out = export(snapshot, tmp_path / "model")
    for path in (snapshot, out):
        generator = load_generator(path)
        torch.testing.assert_close(generator(latents=z, label=labels), expected)
        ws = G.repeat_w(G.map_latents(z, torch.tensor(labels)), 0.5, cutoff=2)
        torch.testing.assert_close(
            generator(latents=z, label=labels, truncation=0.5, cutoff=2, noise="none"),
            G.synthesis(ws, "none"),
        )
    config = json.loads((out / "config.json").read_text())
    with safe_open(out / "generator.safetensors", "pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    inputs = {"z": z, "y": torch.eye(2)[labels]}
    made = graph.run_graph(config["networks"]["generator"]["graph"], weights, inputs)
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-5)
    # also in an export of the export
    again = export(out, tmp_path / "again")
    for folder in (out, again):
        card = (folder / "README.md").read_text()
        assert hash_snapshot(snapshot) in card
        assert "under the license of their authors" in card


@torch.no_grad()
def test_snapshot_of_stylegan3_repository_makes_the_same_images(tmp_path: Path) -> None:
    """Of its configuration stylegan2, with more attributes; half-precision layers are float32."""
    G, D = build_networks()
    described = {"G": describe_network(G), "D": describe_network(D), "G_ema": describe_network(G)}
    for network in described.values():
        add_stylegan3_attributes(network)
    path = write_snapshot(tmp_path / "stylegan2.pkl", **described)
    content, z, labels = read_snapshot(path), torch.randn(4, 5), [1, 0, 1, 1]
    images = load_generator(path)(latents=z, label=labels)
    torch.testing.assert_close(images, G(z, torch.tensor(labels)))
    for name, value in D.state_dict().items():
        assert torch.equal(content["state_dict"][f"discriminator.{name}"], value), name


@pytest.mark.skipif(not AUTHORS.is_dir(), reason=f"{AUTHORS} is not part of the repository")
def test_authors_snapshot_reproduces_their_images() -> None:
    with safe_open(AUTHORS / "conditional32.safetensors", "pt") as file:
        z, y, expected = (file.get_tensor(n) for n in ("in.z", "in.c", "out.image_noise_const"))
    generator = load_generator(AUTHORS / "conditional32.pkl")
    images = generator(latents=z, label=y.argmax(dim=1).tolist())
    assert float((images - expected).abs().max() / expected.abs().max()) < 1e-5


@pytest.mark.parametrize(("side", "channels", "classes"), [(16, 3, 2), (32, 3, 3), (16, 1, 0)])
def test_warm_start_takes_the_blocks_that_exist_in_both(
    side: int, channels: int, classes: int, snapshot: Path
) -> None:
    """Also at another resolution, or with other numbers of channels and classes."""
    width = {"width": 3, "max_width": 6} if side == 16 else {"width": 2, "max_width": 6}
    family = StyleGAN2(
        image_shape=(channels, side, side), num_classes=classes, z_dim=5, w_dim=4, **width
    )
    ema = EMA(EmaConfig(), Progress(1, 1))
    loaded = load_matching_weights(family, ema, snapshot)
    (G, D), (raw, _) = build_networks(), build_networks(seed=1)
    averaged = ema.networks["generator"]
    for own, theirs in ((family.generator, raw), (averaged, G), (family.discriminator, D)):
        name = "b8.conv0.weight" if own is family.discriminator else "synthesis.b8.conv0.weight"
        assert torch.equal(own.state_dict()[name], theirs.state_dict()[name])
    assert (not loaded.initialized) == (side == 16 and channels == 3)
    # blocks that the snapshot lacks start equal
    for name, value in averaged.state_dict().items():
        if any(line.startswith(f"generator.{name} ") for line in loaded.initialized):
            assert torch.equal(value, family.generator.state_dict()[name]), name


# -------------------------------------------------------------------------------------------------
# Hostile and foreign files


class Command:
    """Unpickling it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


class Nested:
    """A nested file of torch with any content."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __reduce__(self) -> Any:
        return torch.storage._load_from_bytes, (self.content,)


class View:
    """A tensor that claims a size and stride over a small storage."""

    def __init__(self, size: tuple[int, ...], stride: tuple[int, ...]) -> None:
        self.size, self.stride = size, stride

    def __reduce__(self) -> Any:
        storage = torch.zeros(2)._typed_storage()
        return torch._utils._rebuild_tensor_v2, (storage, 0, self.size, self.stride, False, {})


def store(values: Tensor) -> bytes:
    """Save a storage as the authors' snapshots contain it."""
    file = io.BytesIO()
    torch.save(values._typed_storage(), file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def write_recursive(path: Path) -> None:
    network = Persistent("Generator", {**EMPTY})
    network.meta["state"]["_modules"] = {"itself": network}
    network.meta["state"] |= {"_parameters": {}, "_buffers": {}}

    # pickle cannot write an object inside of its own arguments: repeat a finished one instead
    part: Any = Persistent("Block", {**EMPTY})
    for _ in range(30):
        part = Persistent("Block", {**EMPTY, "_modules": {"a": part, "b": part}})
    write_snapshot(path, G_ema=part)


def write_persistent_id(path: Path) -> None:
    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            return "an id" if value == "weights" else None

    file = io.BytesIO()
    Pickler(file, 4).dump({"G_ema": "weights"})
    path.write_bytes(file.getvalue())


def write_tensorflow(path: Path) -> None:
    with authors_modules():
        network = sys.modules["dnnlib.tflib.network"].Network()
        path.write_bytes(pickle.dumps((network,), protocol=4))


def write_key_of_tuples(path: Path) -> None:
    """Hashing 2^60 tuples takes forever."""
    tuples = b"\x80\x04}" + b")" + b"2\x86" * 60
    path.write_bytes(tuples + b"Ns.")


def change(name: str, value: Any) -> Callable[[Path], None]:
    """Write a snapshot with another tensor in its generator; None removes it."""

    def write(path: Path) -> None:
        network = describe_network(build_networks()[0])
        module: Any = network
        *modules, last = name.split(".")
        for each in modules:
            module = module.meta["state"]["_modules"][each]
        parameters = module.meta["state"]["_parameters"]
        if value is None:
            del parameters[last]
        else:
            parameters[last] = value
        write_snapshot(path, G_ema=network)

    return write


def attribute(name: str, key: str = "G_ema", **attributes: Any) -> Callable[[Path], None]:
    """Write a snapshot with other attributes of one layer."""

    def write(path: Path) -> None:
        G, D = build_networks()
        module: Any = describe_network(D if key == "D" else G)
        content = {"G_ema": describe_network(G), key: module}
        for each in name.split("."):
            module = module.meta["state"]["_modules"][each]
        module.meta["state"].update(attributes)
        write_snapshot(path, **content)

    return write


def entry(value: Any) -> Callable[[Path], None]:
    """Write a snapshot with an additional entry."""
    return lambda path: write_snapshot(path, extra=value) and None


def raw(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


def style_gan3(path: Path) -> None:
    synthesis = Persistent(
        "SynthesisNetwork",
        {**EMPTY, "_modules": {"input": Persistent("SynthesisInput", {**EMPTY})}},
    )
    write_snapshot(
        path, G_ema=Persistent("Generator", {**EMPTY, "_modules": {"synthesis": synthesis}})
    )


HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "command": (entry(Command(Path("canary"))), "it refers to 'posix.system'"),
    "eval": (entry(eval), "it refers to 'builtins.eval'"),
    "nested command": (
        entry(Nested(pickle.dumps(Command(Path("canary"))))),
        "it refers to 'posix.system'",
    ),
    "nested claim": (
        entry(Nested(store(torch.ones(3)).replace(b"K\x03", b"J\xff\xff\xff\x7f"))),
        "claims 2,147,483,647 numbers and has 12 bytes",
    ),
    "nested zip": (entry(Nested(b"PK\x03\x04" + bytes(100))), "no newline found"),
    "view": (
        entry(View((10**6, 10**6), (0, 0))),
        "a tensor of 1,000,000,000,000 numbers in a storage of 2",
    ),
    "persistent id": (write_persistent_id, "it has a persistent id"),
    "object dtype": (entry(np.dtype(object)), "it has the numpy dtype 'O8'"),
    "repeated modules": (write_recursive, "nested too deep, or occurs twice"),
    "recursive": (raw(b"\x80\x04}\x94\x8c\x05G_emah\x00s."), "G_ema. is a dict, not a module"),
    "key of tuples": (write_key_of_tuples, "it has the operation DUP"),
    "huge bytes": (
        raw(b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"."),
        "expected 1099511627776 bytes",
    ),
    "huge memo": (
        raw(b"\x80\x04}r" + struct.pack("<I", 2**32 - 1) + b"."),
        "it is not a dict with G_ema",
    ),
    "set state": (raw(b"\x80\x04cnumpy\ndtype\n}b."), "it sets the state of a _Name"),
    "protocol 0": (raw(b"(dp0\nS'G_ema'\np1\nNs."), "it has the operation DICT"),
    "tensorflow": (write_tensorflow, "it is a TensorFlow snapshot"),
    "stylegan3": (style_gan3, "it is a StyleGAN3 snapshot"),
    "other shape": (
        change("synthesis.b8.conv1.weight", torch.zeros(6, 6, 1, 1)),
        r"G_ema.synthesis.b8.conv1.weight is \(6, 6, 1, 1\), "
        r"but StyleGAN2 of this size has \(6, 6, 3, 3\)",
    ),
    "missing": (
        change("synthesis.b8.conv1.weight", None),
        "G_ema.synthesis.b8.conv1.weight is missing",
    ),
    "additional": (change("synthesis.b8.conv1.extra", torch.zeros(2)), "has no such tensor"),
    "nan": (change("synthesis.b8.conv1.bias", torch.full((6,), torch.nan)), "contains NaN or Inf"),
    "integers": (
        change("synthesis.b8.conv1.bias", torch.zeros(6).int()),
        "is not a tensor of floats",
    ),
    "activation": (
        attribute("synthesis.b8.conv0", activation="relu"),
        "G_ema.synthesis.b8.conv0.activation is relu, but StyleGAN2 of this size has lrelu",
    ),
    "learning rate": (
        attribute("mapping.fc0", lr_multiplier=1),
        "G_ema.mapping.fc0.lr_multiplier is 1, but StyleGAN2 of this size has 0.01",
    ),
    "argument": (
        attribute("mapping.fc0", _init_kwargs={"lr_multiplier": 1}),
        "G_ema.mapping.fc0.lr_multiplier is 1",
    ),
    "gain": (
        attribute("synthesis.b16.torgb", weight_gain=123),
        "G_ema.synthesis.b16.torgb.weight_gain is 123",
    ),
    "no noise": (
        attribute("synthesis.b16.conv1", use_noise=False),
        "G_ema.synthesis.b16.conv1.use_noise is False",
    ),
    "D's activation": (
        attribute("b8.skip", "D", activation="lrelu"),
        "D.b8.skip.activation is lrelu",
    ),
    "D's gain": (
        attribute("b4.fc", "D", act_gain=1, weight_gain=None),
        "D.b4.fc.weight_gain is NoneType",
    ),
    "text": (raw(b"a text, not a pickle"), "usable"),
    "empty": (raw(b""), "usable"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_and_foreign_files_are_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line, without executing anything, and within the memory of the file."""
    monkeypatch.chdir(tmp_path)
    write, message = HOSTILE[name]
    write(tmp_path / "hostile.pkl")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=message) as error:
        read_snapshot(tmp_path / "hostile.pkl")
    assert "\n" not in str(error.value)
    assert "is not a usable StyleGAN2 snapshot, nothing was loaded: " in str(error.value)
    assert not (tmp_path / "canary").exists()
    # in KB
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_truncated_snapshot_is_refused(snapshot: Path, tmp_path: Path) -> None:
    content = snapshot.read_bytes()
    for part in (1, len(content) // 2, len(content) - 1):
        (tmp_path / "part.pkl").write_bytes(content[:part])
        with pytest.raises(UserError, match="nothing was loaded"):
            read_snapshot(tmp_path / "part.pkl")


def test_tensors_that_share_memory_are_refused(tmp_path: Path) -> None:
    """A small file must not become large weights."""
    network = describe_network(build_networks()[0])
    shared = torch.zeros(6 * 6 * 3 * 3 * 40)
    for module in network.meta["state"]["_modules"]["synthesis"].meta["state"]["_modules"].values():
        for layer in module.meta["state"]["_modules"].values():
            layer.meta["state"]["_parameters"]["weight"] = shared
    write_snapshot(tmp_path / "shared.pkl", G_ema=network)
    with pytest.raises(UserError, match="its tensors share memory"):
        read_snapshot(tmp_path / "shared.pkl")


def test_repeated_storage_is_read_once() -> None:
    """Five bytes of a pickle repeat the call; each further copy would have the size of the file."""
    content = store(torch.arange(1000.0))
    call = b"ctorch.storage\n_load_from_bytes\nq\x00"
    argument = b"B" + struct.pack("<I", len(content)) + content + b"\x85q\x01"
    repeated = b"\x80\x04](" + call + argument + b"R" + b"h\x00h\x01R" * 300 + b"e."
    tensors = snapshot_pickle.read_pickle(repeated)
    assert len(tensors) == 301
    assert torch.equal(tensors[-1], torch.arange(1000.0))
    assert {tensor.data_ptr() for tensor in tensors} == {tensors[0].data_ptr()}


def test_operations_of_nested_files_count(monkeypatch: pytest.MonkeyPatch) -> None:
    content = pickle.dumps([Nested(store(torch.ones(n))) for n in range(3)], protocol=4)
    outer = sum(1 for _ in pickletools.genops(content))
    snapshot_pickle.read_pickle(content)
    monkeypatch.setattr(snapshot_pickle, "MAX_OPERATIONS", outer + 10)
    with pytest.raises(UserError, match=f"it has more than {outer + 10} operations"):
        snapshot_pickle.read_pickle(content)


# -------------------------------------------------------------------------------------------------
# Sampling from generators with w


@torch.no_grad()
def test_mix_takes_layers_of_the_second_seed(snapshot: Path) -> None:
    """Rows of seed 0, columns of seed 9, and between them styles of both."""
    generator, (G, _) = load_generator(snapshot), build_networks()
    images = generator.mix(0, 9, n=2, layers=range(2, 4), label=1).unflatten(0, (3, 3))
    assert (images[0, 0] == -1).all()
    torch.testing.assert_close(images[1:, 0], generator(2, label=1, seed=0))
    torch.testing.assert_close(images[0, 1:], generator(2, label=1, seed=9))
    y = torch.ones(2).long()
    rows, columns = (G.repeat_w(G.map_latents(generator.latents(2, seed), y)) for seed in (0, 9))
    mixed = torch.cat([rows[1:, :2], columns[:1, 2:4], rows[1:, 4:]], dim=1)
    torch.testing.assert_close(images[2, 1], G.synthesis(mixed)[0])
    with pytest.raises(UserError, match="Layers out of range: use some of 0 to 5"):
        generator.mix(n=2, layers=range(4, 8))


def test_noise_is_constant_random_by_seed_or_none(snapshot: Path) -> None:
    generator = load_generator(snapshot)
    z = torch.randn(1, 5).repeat(3, 1)
    const, none = (generator(latents=z, label=0, noise=each) for each in ("const", "none"))
    torch.testing.assert_close(const[0], const[2])
    assert not torch.allclose(const, none)
    first, again, other = (generator(latents=z, label=0, noise="random", seed=s) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    assert not torch.allclose(first[0], first[1])
    # images do not depend on the size of a batch
    parts = generator(latents=z, label=0, noise="random", seed=1, batch_size=2)
    torch.testing.assert_close(parts, first)


def test_truncation_moves_w_and_not_z(snapshot: Path) -> None:
    """With ψ near 0 all images are that of the mean w; scaled latents would change nothing."""
    generator = load_generator(snapshot)
    images = generator(3, label=0, truncation=1e-6)
    assert float((images[0] - images[1]).abs().max()) < 1e-4
    assert torch.equal(generator.latents(3, 0, truncation=0.5), generator.latents(3, 0))


def test_arguments_that_do_not_fit_are_named(snapshot: Path) -> None:
    generator = load_generator(snapshot)
    with pytest.raises(UserError, match=r"latents have the shape \(3, 4\): pass \[n, 5\]"):
        generator(latents=torch.randn(3, 4))
    with pytest.raises(UserError, match="noise='loud': pass const, random or none"):
        generator(3, noise="loud")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["--mix", "0", "9", "--layers", "2-3"], "mix0-9-layers2-3-n2-seed0.png"),
        (["--truncation", "0.5", "--cutoff", "2"], "sample-n2-seed0-truncation0.5-cutoff2.png"),
        (["--noise", "random"], "sample-n2-seed0-noise-random.png"),
    ],
)
def test_sample_draws_styles(words: list[str], name: str, snapshot: Path) -> None:
    result = CliRunner().invoke(app, ["sample", str(snapshot), "--n", "2", *words])
    assert result.exit_code == 0, result.output
    assert (snapshot.parent / name).is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mix", "0", "9", "--layers", "4+"], "--layers 4+ is invalid. Write 4-, 0-3 or 2"),
        (["--mix", "0", "9", "--interpolate", "4"], "--interpolate and --mix exclude each other"),
        (["--mix", "0", "9", "--noise", "none"], "--noise and --cutoff do not apply to --mix"),
    ],
)
def test_sample_refuses_options_that_do_not_fit(
    words: list[str], message: str, snapshot: Path
) -> None:
    result = CliRunner().invoke(app, ["sample", str(snapshot), *words])
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)
