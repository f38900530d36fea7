from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import __main__ as gpu_check
from gan_lab import device
from gan_lab.config import loading
from gan_lab.doctor import check_machine
from gan_lab.metrics import extractors
from gan_lab.training import builder
from gan_lab.utils import errors
from tests.contracts.test_families import fit

CUDNN, PRODUCTS = torch.backends.cudnn, torch.backends.cuda.matmul


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = CUDNN.allow_tf32, PRODUCTS.allow_tf32, CUDNN.deterministic, CUDNN.benchmark
    yield
    CUDNN.allow_tf32, PRODUCTS.allow_tf32, CUDNN.deterministic, CUDNN.benchmark = before


@pytest.mark.parametrize(
    ("flags", "precision", "expected"),
    [
        (
            "avx512f avx512_bf16",
            "32-true",
            "run.precision=bf16-mixed trains convolutional networks faster",
        ),
        ("avx512f avx512_bf16", "bf16-mixed", ""),
        ("avx512f avx512_bf16x", "32-true", ""),
        ("avx2", "bf16-mixed", "run.precision=32-true is faster"),
        ("asimd bf16", "32-true", "run.precision=bf16-mixed trains convolutional networks faster"),
    ],
)
def test_advice_on_bf16_follows_flags_of_processor(
    flags: str, precision: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device, "CPU_INFO", tmp_path / "cpuinfo")
    assert device.advise_on_bf16("32-true") == ""
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags : fpu {flags} sse\n", "utf-8")
    assert expected in device.advise_on_bf16(precision)
    assert bool(expected) == bool(device.advise_on_bf16(precision))
    finding = check_machine.precision(loading.load("cgan", [f"run.precision={precision}"]).config)
    assert finding.remedy == device.advise_on_bf16(precision)
    assert finding.level == ("warn" if precision == "bf16-mixed" and expected else "ok")


@pytest.mark.parametrize(
    ("precision", "tf32"), [("32-true", False), ("tf32", True), ("bf16-mixed", False)]
)
def test_only_who_asks_for_tf32_trains_in_it_and_nobody_scores_in_it(
    precision: str, tf32: bool, tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    CUDNN.allow_tf32, CUDNN.deterministic, CUDNN.benchmark = True, False, True
    seen: dict[str, set[tuple[bool, bool]]] = {"step": set(), "extractor": set(), "generate": set()}

    def watched(where: str, owner: type, method: str) -> None:
        real = getattr(owner, method)

        def call(*arguments: object, **named: object) -> object:
            seen[where].add((CUDNN.allow_tf32, PRODUCTS.allow_tf32))
            return real(*arguments, **named)

        monkeypatch.setattr(owner, method, call)

    made = loading.family_class("gan")
    watched("step", made, "step")
    watched("extractor", extractors.load("digits").__class__, "forward")
    monkeypatch.setattr(builder.SampleGrids, "write", lambda *_: None)  # a grid is for the eye
    watched("generate", made, "generate")
    fit(
        "gan",
        tmp_path,
        data_root,
        f"run.precision={precision}",
        "run.images=32",
        "log.log_every_images=16",
    )
    assert seen == {
        "step": {(tf32, tf32)},
        "extractor": {(False, False)},
        "generate": {(False, False)},
    }
    assert CUDNN.deterministic
    assert not CUDNN.benchmark


def test_what_was_allowed_is_allowed_again_also_after_an_error() -> None:
    device.set_precision("tf32")
    with torch.autocast("cpu", torch.bfloat16), device.exact_arithmetic(torch.device("cpu")):
        assert not torch.is_autocast_enabled("cpu")
        assert not CUDNN.allow_tf32
    with suppress(ZeroDivisionError), device.exact_arithmetic(torch.device("cpu")):
        _ = 1 / 0
    assert CUDNN.allow_tf32
    assert PRODUCTS.allow_tf32


def test_on_a_cpu_tf32_is_float32(tmp_path: Path, data_root: Path) -> None:
    one, other = (
        fit("gan", tmp_path / precision, data_root, f"run.precision={precision}", "run.images=32")[
            0
        ].family.state_dict()
        for precision in ("32-true", "tf32")
    )
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_check_says_in_a_line_that_there_is_none_and_rehearses_without(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu-check", "--rehearse", "--family", "gan", "sampling"])
    assert gpu_check.main() == 0
    row = "| load_generator(device=...): 64 images, GPU = CPU | 0.0e+00 | 1e-5 | met |"
    assert row in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["gpu-check"])
    assert gpu_check.main() == 0
    alone = capsys.readouterr().out
    assert alone.startswith("gpu-check: not run")
    assert alone.count("\n") == 1
    monkeypatch.setattr(sys, "argv", ["gpu-check", "sampling", "speed"])
    with pytest.raises(SystemExit, match="2"):
        gpu_check.main()
    assert "unknown check" in capsys.readouterr().err


@pytest.mark.skipif(
    not Path("/proc/meminfo").exists(), reason="Linux says how much memory there is"
)
def test_more_than_the_memory_is_an_error_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    with device.limit_memory():
        torch.zeros(2**18)
        with pytest.raises(RuntimeError) as raised:
            torch.zeros(2**42)
    assert "run.micro_batches=2" in (errors.explain_error(raised.value) or "")
    real = device._kilobytes
    monkeypatch.setattr(
        device,
        "_kilobytes",
        lambda table, name: 200_000 if name == "MemAvailable" else real(table, name),
    )
    with (
        device.limit_memory(),
        pytest.raises(RuntimeError, match="memory"),
    ):  # 400 MB of the 200 that are left
        torch.zeros(10**8)
    assert len(torch.zeros(10**8)) == 10**8
    assert resource.getrlimit(resource.RLIMIT_DATA) == limits
