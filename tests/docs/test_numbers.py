"""The numbers in the documentation equal the committed results and change only on purpose."""

from __future__ import annotations

import json
import math
import re
import runpy
import statistics
from pathlib import Path
from statistics import mean, stdev

import pytest

from benchmarks import growth, quality
from gan_lab.report.statistics import welch

REPOSITORY = Path(__file__).parents[2]
RESULTS = REPOSITORY / "docs" / "studies" / "results"
SCRIPT = runpy.run_path(str(REPOSITORY / "scripts" / "record_numbers.py"))
RECORD = json.loads(SCRIPT["RECORD"].read_text(encoding="utf-8"))
BENCHMARK = runpy.run_path(str(REPOSITORY / "scripts" / "record_benchmark.py"))
SENSITIVITY = runpy.run_path(str(REPOSITORY / "scripts" / "record_sensitivity.py"))
RUNS = json.loads((REPOSITORY / "docs" / "results" / "runs.json").read_text(encoding="utf-8"))
BENCHMARK_ROWS = json.loads(BENCHMARK["RECORD"].read_text(encoding="utf-8"))["rows"]

DIGIT_SCORES = (
    "fd_digits",
    "precision_digits",
    "recall_digits",
    "coverage_digits",
    "label_accuracy",
    "near_copies_digits",
    "leaks",
)
# Page, beginning of the row, index of the cell, study, arm, score.
TABLE_CELLS = [
    (
        "docs/few_images.md",
        f"| {digits} | {label} |",
        2 + i,
        "few_images",
        f"{arm}_{digits.replace(',', '')}",
        score,
    )
    for digits in ("100", "300", "1,000", "3,700")
    for label, arm in (("off", "off"), ("`ada`", "ada"), ("`diffaugment`", "diffaugment"))
    for i, score in enumerate(DIGIT_SCORES)
    if not (arm == "off" and score == "leaks")
]
TABLE_CELLS += [
    (
        "docs/few_images.md",
        f"| {emoji} | {start}",
        1 + i,
        "few_emoji",
        f"{arm}_{name}",
        "kd_lite0_mid",
    )
    for emoji, name, start in (
        ("100", "100", "7,747"),
        ("300", "300", "7,538"),
        ("1,000", "1000", "6,878"),
        ("3,566", "all", "5,962"),
    )
    for i, arm in enumerate(("off", "ada", "diffaugment"))
]
TABLE_CELLS += [
    ("docs/methods/gan.md", f"(../studies/{study}.md)", 1 + i, study, arm, "fd_digits")
    for study, arms in (
        ("batch_norm", ("digits", "digits_with")),
        ("one_sided_labels", ("without", "with")),
        ("decoupled_decay", ("without", "with")),
        ("weak_dropout", ("without", "with")),
        ("early_noise", ("without", "with")),
        ("head_start", ("without", "with")),
    )
    for i, arm in enumerate(arms)
]
TABLE_CELLS += [
    ("docs/methods/pix2pix.md", f"| {label} |", 1, "paired", arm, "gain_inside")
    for label, arm in (("20", "pairs_20"), ("100", "pairs_100"), ("a thousand", "pairs_1000"))
]
TABLE_CELLS += [
    ("docs/methods/pix2pix.md", "| CycleGAN, no pairs |", 1, "paired", "unpaired", "gain_inside"),
    (
        "docs/methods/cyclegan.md",
        "| 0, and no identity loss |",
        1,
        "cycle_consistency",
        "weight_0",
        "gain_inside",
    ),
    ("docs/methods/cyclegan.md", "| 1 |", 1, "cycle_consistency", "weight_1", "gain_inside"),
    (
        "docs/methods/cyclegan.md",
        "| 10, the paper's |",
        1,
        "cycle_consistency",
        "weight_10",
        "gain_inside",
    ),
    ("docs/methods/cyclegan.md", "| 100 |", 1, "cycle_consistency", "weight_100", "gain_inside"),
]
# Page, text, study, arm, score, factor.
SENTENCES = [
    ("README.md", "from 3.33", "hundred_digits", "off_100", "fd_digits", 1),
    ("README.md", "to 2.21 (", "hundred_digits", "ada_100", "fd_digits", 1),
    ("README.md", "accuracy of 1.00", "fresh_discriminator", "images_5000", "accuracy", 1),
    ("README.md", "and 0.70 after", "fresh_discriminator", "images_80000", "accuracy", 1),
    ("README.md", "with 0.51 (prediction", "fresh_discriminator", "real", "accuracy", 1),
    ("docs/methods/stylegan2.md", "is 42.6", "style_generator", "digits_stylegan2", "fd_digits", 1),
    (
        "docs/methods/stylegan2.md",
        "after 169",
        "style_generator",
        "digits_stylegan2",
        "cpu_seconds",
        1,
    ),
    ("docs/methods/stylegan2.md", "DCGAN 10.5", "style_generator", "digits_dcgan", "fd_digits", 1),
    ("docs/methods/stylegan2.md", "after 215", "style_generator", "digits_dcgan", "cpu_seconds", 1),
    ("docs/methods/stylegan2.md", "7,099", "style_generator", "emoji_stylegan2", "kd_lite0_mid", 1),
    ("docs/methods/stylegan2.md", "3,991", "style_generator", "emoji_sngan", "kd_lite0_mid", 1),
    ("docs/methods/stylegan2.md", "286", "style_generator", "faces_stylegan2", "kd_lite0_mid", 1),
    ("docs/methods/stylegan2.md", "224", "style_generator", "faces_r3gan", "kd_lite0_mid", 1),
    ("docs/few_images.md", "3.33 ± 0.56", "hundred_digits", "off_100", "fd_digits", 1),
    ("docs/few_images.md", "2.21 ± 0.26", "hundred_digits", "ada_100", "fd_digits", 1),
    ("docs/few_images.md", "1.99 ± 0.15", "hundred_digits", "diffaugment_100", "fd_digits", 1),
    ("docs/few_images.md", "70 ± 13", "faces_by_heart", "without", "kd_lite0_mid", 1),
    ("docs/few_images.md", "33 ± 4", "faces_by_heart", "with_ada", "kd_lite0_mid", 1),
    ("docs/few_images.md", "lie 9.54 ± 0.78", "memorized_faces", "without", "gap", 1),
    ("docs/few_images.md", "and 3 ± 0.53 with", "memorized_faces", "with_ada", "gap", 1),
    ("docs/few_images.md", "is 78.9 ± 5", "memorized_faces", "without", "kd_lite0_mid", 1),
    ("docs/few_images.md", "and 63 ± 7.1", "memorized_faces", "with_ada", "kd_lite0_mid", 1),
    ("docs/few_images.md", "94 ± 20", "faces", "faces_80_ada", "kd_lite0_mid", 1),
    ("docs/few_images.md", "84 ± 19", "faces", "faces_80", "kd_lite0_mid", 1),
    ("docs/few_images.md", "271 ± 86", "faces", "faces_20", "kd_lite0_mid", 1),
    ("docs/methods/sngan.md", "was 21.1 ± 3.4", "large_rates", "with_fast", "fd_digits", 1),
    ("docs/methods/sngan.md", "and 50.6 ± 17", "large_rates", "without_fast", "fd_digits", 1),
    ("docs/methods/gan.md", "it keeps 7.6 of", "batch_norm", "ring_with", "modes_covered", 1),
    ("docs/methods/gan.md", "keep 2.4 ± 3.4 of", "packing", "single", "modes_covered", 1),
    ("docs/methods/gan.md", "packs of two 8 ± 0", "packing", "packs_of_two", "modes_covered", 1),
    ("docs/methods/gan.md", "four 7.4 ± 0.67", "packing", "packs_of_four", "modes_covered", 1),
    ("docs/methods/gan.md", "only 36 %", "packing", "packs_of_four", "high_quality", 100),
    ("docs/methods/gan.md", "packs of two 76 %", "packing", "packs_of_two", "high_quality", 100),
    ("docs/methods/gan.md", "classifies 0.730", "features", "dcgan", "trained", 1),
    ("docs/methods/gan.md", "untrained 0.704", "features", "dcgan", "untrained", 1),
    ("docs/methods/gan.md", "pixels 0.691", "features", "dcgan", "pixels", 1),
    ("docs/methods/gan.md", "5.63 ± 0.37", "tutorial_program", "program", "fd_digits", 1),
    ("docs/methods/gan.md", "8.71 ± 1.3", "tutorial_program", "slip", "fd_digits", 1),
    ("docs/methods/gan.md", "252 ± 2.3", "tutorial_program", "untrained", "fd_digits", 1),
    ("docs/methods/cgan.md", "of 0.64, an", "projection_variety", "projection", "recall_digits", 1),
    (
        "docs/methods/cgan.md",
        "accuracy of 0.94",
        "projection_variety",
        "projection",
        "label_accuracy",
        1,
    ),
    (
        "docs/methods/acgan.md",
        "recall of 0.49",
        "projection_variety",
        "classifier",
        "recall_digits",
        1,
    ),
    (
        "docs/methods/cgan.md",
        "`fd_digits` of 2.00",
        "projection_variety",
        "projection",
        "fd_digits",
        1,
    ),
    (
        "docs/methods/cgan.md",
        "recall is 0.60",
        "projection_variety",
        "projection",
        "recall_pixels",
        1,
    ),
    ("docs/methods/cgan.md", "default 0.70", "projection_variety", "input", "recall_pixels", 1),
    ("docs/methods/acgan.md", "tor (0.64)", "projection_variety", "projection", "recall_digits", 1),
    ("docs/methods/vaegan.md", "VAE 0.41", "vae_blur", "vae", "sharpness", 1),
    ("docs/methods/vaegan.md", "1.19 ± 0.13", "vae_blur", "vaegan", "sharpness", 1),
    ("docs/methods/vaegan.md", "DCGAN 1.00", "vae_blur", "dcgan", "sharpness", 1),
    ("docs/methods/wgan.md", "0.932 ± 0.027", "critic_across", "wgan", "strength", 1),
    ("docs/methods/wgan.md", "0.863 ± 0.047", "critic_across", "wgan_gp", "strength", 1),
    ("docs/methods/wgan.md", "0.818 ± 0.072", "critic_across", "loss_g", "strength", 1),
    ("docs/methods/wgan.md", "-0.792 ± 0.074", "critic_across", "loss_d", "correlation", 1),
    ("docs/methods/wgan_gp.md", "0.863 ± 0.047", "critic_across", "wgan_gp", "strength", 1),
    ("docs/methods/wgan.md", "19.6 ± 0.52", "clipping", "clipped", "at_bound", 100),
    ("docs/methods/wgan.md", "0.0143 ± 0.0036", "clipping", "penalty", "at_bound", 100),
    ("docs/methods/wgan_gp.md", "19.5 ± 0.098", "clipping", "penalty", "fd_digits", 1),
    ("docs/methods/wgan_gp.md", "23.1 ± 1.4", "clipping", "clipped", "fd_digits", 1),
    ("docs/methods/sgan.md", "by 15 percentage", "few_labels", "labels_50", "accuracy_gain", 100),
    ("docs/methods/sgan.md", "13 with 100", "few_labels", "labels_100", "accuracy_gain", 100),
    ("docs/methods/pix2pix.md", "of 14.8 dB", "random_hues", "both", "psnr", 1),
    ("docs/methods/pix2pix.md", "of 17.2 dB", "random_hues", "l1", "psnr", 1),
    (
        "docs/methods/stylegan2.md",
        "mean emoji has 6,375",
        "style_generator",
        "emoji_stylegan2",
        "kd_lite0_mid_of_mean_image",
        1,
    ),
]
GAIN, BACKGROUND = ("gain_inside",), ("psnr_outside",)
# Page, beginning of the row, index of the cell, study, arm and scores: the cell has the score of
# each seed, or several scores of the first seed.
HORSES = [
    ("docs/methods/cyclegan.md", row, cell, "cycle_consistency", "weight_10", (score,))
    for row, *scores in (
        ("| gain inside the animal over", "gain_inside", "back_gain_inside"),
        ("| background preserved |", "psnr_outside", "back_psnr_outside"),
        ("| there and back | 29", "cycle_psnr", "back_cycle_psnr"),
    )
    for cell, score in enumerate(scores, 1)
]
HORSES += [
    ("docs/methods/cut.md", row, cell, "paired", arm, scores)
    for row, scores in (
        ("| gain inside the animal over", GAIN),
        ("| background preserved (", BACKGROUND),
    )
    for cell, arm in ((2, "unpaired"), (3, "pairs_1000"))
]
HORSES += [
    ("docs/methods/pix2pix.md", f"| `pix2pix` | {row}", 2, "paired", "pairs_1000", scores)
    for row, scores in (
        ("`gain_inside`", GAIN),
        ("`psnr_inside`, ", ("psnr_inside", "psnr_outside")),
        ("`psnr`; ", ("psnr", "psnr_of_input", "psnr_of_nearest")),
    )
]
EMOJI_CUT = "cut data.name=emoji_pairs data.paired=false model.norm=instance"
BACKWARD = "pix2pix data.direction=BtoA"
STYLEGAN2 = "stylegan2 run.images=32000 run.evaluate_every_images=8000"
EMOJI_ENLARGED = "super_resolution data=emoji64 run.images=4000"
# Page, text with gaps, row of docs/results/runs.json, a score for each gap.
RUN_QUOTES = [
    ("cut.md", "(`gain_inside`) | {} dB |", "cut", GAIN),
    ("cut.md", "(`psnr_outside`) | {} dB |", "cut", BACKGROUND),
    ("cut.md", "16 minutes of one core): {} dB", EMOJI_CUT, ("psnr",)),
    ("cut.md", "The unchanged drawing has {} dB", EMOJI_CUT, ("psnr_of_input",)),
    ("cut.md", "`cyclegan_emoji` {} dB", "cyclegan_emoji", ("psnr",)),
    ("cut.md", "`pix2pix_emoji`, with pairs, {} dB", "pix2pix_emoji", ("psnr",)),
    ("README.md", "to zebra: {} dB, {} dB |", "cut", (*GAIN, *BACKGROUND)),
    ("README.md", "(`data.direction=BtoA`): {} dB, {} dB |", BACKWARD, (*GAIN, *BACKGROUND)),
    ("README.md", "| {} dB over the gray input", "colorize", ("gain_over_mean_colour",)),
    ("README.md", "| {} dB inside the hole over", "inpaint", ("gain_over_mean_fill",)),
    ("README.md", "| {} dB over bicubic", "super_resolution", ("gain_over_bicubic",)),
    (
        "pix2pix.md",
        "| {} dB; {} dB, {} dB |",
        BACKWARD,
        ("gain_inside", "psnr_inside", "psnr_outside"),
    ),
    ("pix2pix.md", "| the network | {} dB |", "pix2pix_emoji", ("psnr",)),
    ("pix2pix.md", "the unchanged drawing | {} dB |", "pix2pix_emoji", ("psnr_of_input",)),
    ("pix2pix.md", "with the nearest drawing | {} dB |", "pix2pix_emoji", ("psnr_of_nearest",)),
    (
        "cyclegan.md",
        "| the network | {} dB (`psnr`) | {} dB (`back_psnr`) |",
        "cyclegan_emoji",
        ("psnr", "back_psnr"),
    ),
    (
        "cyclegan.md",
        "| unchanged input | {} dB (`psnr_of_input`) | {} dB (`back_psnr_of_input`) |",
        "cyclegan_emoji",
        ("psnr_of_input", "back_psnr_of_input"),
    ),
    (
        "cyclegan.md",
        "| {} dB (`cycle_psnr`) | {} dB (`back_cycle_psnr`) |",
        "cyclegan_emoji",
        ("cycle_psnr", "back_cycle_psnr"),
    ),
    (
        "restoration.md",
        "`gain_over_mean_fill` | {} dB | {} dB | {} dB |",
        "inpaint",
        ("psnr_inside", "psnr_inside_of_mean_fill", "gain_over_mean_fill"),
    ),
    (
        "restoration.md",
        "In the whole image, `psnr` is {} dB, and {} dB with the hole filled",
        "inpaint",
        ("psnr", "psnr_of_mean_fill"),
    ),
    (
        "restoration.md",
        "`gain_over_nearest_pixel` | {} dB | {} dB | {} dB |",
        "super_resolution",
        ("psnr", "psnr_of_nearest_pixel", "gain_over_nearest_pixel"),
    ),
    (
        "restoration.md",
        "bicubic upsampling, at {} dB, is worse",
        "super_resolution",
        ("psnr_of_bicubic",),
    ),
    (
        "restoration.md",
        "`gain_over_bicubic` | {} dB | {} dB | {} dB |",
        EMOJI_ENLARGED,
        ("psnr", "psnr_of_bicubic", "gain_over_bicubic"),
    ),
    ("stylegan2.md", "`fd_digits` is {}", STYLEGAN2, ("fd_digits",)),
]
# Page, text, row of the benchmark, score.
BENCHMARK_SENTENCES = [
    ("docs/methods/r3gan.md", "`fd_digits` 1.31 ± 0.14", "r3gan", "fd_digits"),
    ("docs/methods/r3gan.md", "`label_accuracy` 0.981 ± 0.012", "r3gan", "label_accuracy"),
    ("docs/methods/sngan.md", "`fd_digits` 1.51 ± 0.37", "sngan", "fd_digits"),
    ("docs/methods/sngan.md", "`label_accuracy` 0.979 ± 0.0033", "sngan", "label_accuracy"),
    ("docs/methods/cgan.md", "`fd_digits` 5.71 ± 0.55", "cgan", "fd_digits"),
    ("docs/methods/cgan.md", "`label_accuracy` 0.833 ± 0.011", "cgan", "label_accuracy"),
    ("docs/methods/acgan.md", "`fd_digits` 6.15 ± 0.46", "acgan", "fd_digits"),
    ("docs/methods/acgan.md", "`label_accuracy` 0.853 ± 0.0098", "acgan", "label_accuracy"),
    ("docs/methods/gan.md", "`gan` 74.7 ± 0.82", "gan", "fd_digits"),
    ("docs/methods/gan.md", "`dcgan` 13.6 ± 0.54", "dcgan", "fd_digits"),
    ("docs/methods/gan.md", "`lsgan` 16.4 ± 0.93", "lsgan", "fd_digits"),
    ("docs/methods/sgan.md", "`fd_digits` 29 ± 1.6", "sgan", "fd_digits"),
    ("docs/methods/vaegan.md", "`fd_digits` 21.3 ± 0.41", "vaegan", "fd_digits"),
    ("docs/methods/vaegan.md", "17.9 ± 0.65 (`vae`)", "vae", "fd_digits"),
    ("docs/methods/wgan.md", "`fd_digits` 22.8 ± 1.3", "wgan", "fd_digits"),
    ("docs/methods/wgan_gp.md", "`fd_digits` 18.3 ± 0.47", "wgan_gp", "fd_digits"),
]


def read_page(page: str) -> str:
    """Return the text of a page."""
    return (REPOSITORY / page).read_text(encoding="utf-8")


def read_results(study: str, arm: str, score: str) -> list[float]:
    """Return the values of all seeds of an arm in the full edition of a study."""
    recorded = json.loads((RESULTS / study / "full.json").read_text(encoding="utf-8"))
    return [seed[score] for seed in recorded["results"][arm]]


def assert_is_rounded(text: str, values: list[float]) -> None:
    """Check that a text such as '3.33 ± 0.56' gives mean and deviation in its own precision.

    Some numbers were rounded twice, first on the page of their study, so the last digit may be off
    by one.
    """
    statistics = [mean(values), stdev(values)]
    printed = re.findall(r"-?\d[\d,]*(?:\.\d+)?", text)
    assert printed, f"no number in {text!r}"
    for number, value in zip(printed[:2] if "±" in text else printed[:1], statistics, strict=False):
        decimals = len(number.partition(".")[2])
        tolerance = 0.75 * 10**-decimals
        assert abs(float(number.replace(",", "")) - value) <= tolerance, (
            f"{text!r} should be {value}"
        )


@pytest.mark.parametrize("page", SCRIPT["list_pages"]())
def test_tables_of_page_have_recorded_numbers(page: str) -> None:
    """A number in a table changed.

    If it was measured again, run scripts/record_numbers.py and review the diff.
    """
    recorded = [
        {"header": table["header"], "rows": table["rows"]} for table in RECORD.get(page, [])
    ]
    assert SCRIPT["read_tables"](page) == recorded


def test_record_names_source_of_every_table() -> None:
    """Every table of numbers has a command or a file that produces it."""
    missing = [
        f"{page}: {table['header']}"
        for page, tables in RECORD.items()
        for table in tables
        if not table["source"]
    ]
    assert not missing


@pytest.mark.parametrize(("page", "row", "cell", "study", "arm", "score"), TABLE_CELLS)
def test_table_cell_equals_study_result(
    page: str, row: str, cell: int, study: str, arm: str, score: str
) -> None:
    """A table that a study produced has the means of its committed results."""
    lines = [line for line in read_page(page).splitlines() if line.startswith("|") and row in line]
    assert len(lines) == 1, f"{page} should have one row with {row!r}"
    assert_is_rounded(lines[0].strip("|").split("|")[cell], read_results(study, arm, score))


@pytest.mark.parametrize(("page", "text", "study", "arm", "score", "factor"), SENTENCES)
def test_sentence_equals_study_result(
    page: str, text: str, study: str, arm: str, score: str, factor: int
) -> None:
    """A number in a sentence about a study is the mean of its committed results."""
    assert text in " ".join(read_page(page).split()), f"{page} no longer says {text!r}"
    assert_is_rounded(text, [factor * value for value in read_results(study, arm, score)])


@pytest.mark.parametrize(("page", "row", "cell", "study", "arm", "scores"), HORSES)
def test_scores_of_horses_equal_study_results(
    page: str, row: str, cell: int, study: str, arm: str, scores: tuple[str, ...]
) -> None:
    """A table of image-to-image methods differs from the committed results of a study."""
    (line,) = [line for line in read_page(page).splitlines() if line.startswith(row)]
    printed = re.findall(r"-?\d+\.\d", line.strip("|").split("|")[cell])
    by_score = [read_results(study, arm, score) for score in scores]
    # one score is printed for all seeds or the first; several scores are those of the first seed
    all_seeds = len(scores) == 1 and len(printed) > 1
    expected = by_score[0] if all_seeds else [seeds[0] for seeds in by_score]
    assert printed == [f"{value:.1f}" for value in expected]


def test_cost_of_live_page_equals_benchmark() -> None:
    """Times to the first page, and the overhead, are those of the committed measurement."""
    path = REPOSITORY / "benchmarks" / "live_page.json"
    recorded = json.loads(path.read_text(encoding="utf-8"))
    measured = recorded["time_to_page"]
    page = read_page("docs/speed.md")
    rounds = recorded["overhead"]["cgan"]["rounds"]
    ratios = [pair["with"]["cpu_s"] / pair["without"]["cpu_s"] for pair in rounds]
    text = " ".join(page.split())
    assert f"the ratio was {' and '.join(f'{ratio:.3f}' for ratio in ratios)}" in text
    (kinds,) = {(pair["with"]["grids"], pair["with"]["pages"]) for pair in rounds}
    assert "with {} grids and {} pages".format(*kinds) in text
    assert min(pair["without"]["cpu_s"] for pair in rounds) > 200
    for experiment, times in measured.items():
        (line,) = [line for line in page.splitlines() if line.startswith(f"| `{experiment}`, ")]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert [cell for cell in cells[1:] if cell] == [
            str(time["cpu_seconds"]) for time in times.values()
        ]
    slowest = max(times["page"]["seconds"] for times in measured.values())
    assert f"up to {math.ceil(slowest)} seconds of" in text
    recognized = measured["cgan"]["recognized"]
    assert f"after {recognized['images']:,} images, {math.ceil(recognized['seconds'])} (" in text


@pytest.mark.parametrize(("page", "text", "row", "scores"), RUN_QUOTES)
def test_score_equals_recorded_run(page: str, text: str, row: str, scores: tuple[str, ...]) -> None:
    """A page of a method differs from docs/results/runs.json.

    scripts/record_runs.py writes it, with the values of all seeds.
    """
    values = [", ".join(f"{value:.1f}" for value in RUNS[row]["scores"][x]) for x in scores]
    expected = text.format(*values)
    assert expected in " ".join(read_page(f"docs/methods/{page}").split())


def test_scores_of_colorization_equal_recorded_runs() -> None:
    """The table has the first seed, the sentence below it the others."""
    first, *others = (f"{x:.1f}" for x in RUNS["colorize"]["scores"]["gain_over_mean_colour"])
    page = " ".join(read_page("docs/methods/pix2pix.md").split())
    assert f"tinted by the mean color | {first} dB |" in page
    assert f"`gain_over_mean_colour` {' and '.join(others)} dB" in page
    assert f"| `colorize` | `psnr` | {RUNS['colorize']['scores']['psnr'][0]:.1f} dB |" in page


def test_scores_of_stylegan2_equal_recorded_run() -> None:
    """The sentence has the accuracy and the recall of the run."""
    scores = {name: values[0] for name, values in RUNS[STYLEGAN2]["scores"].items()}
    page = " ".join(read_page("docs/methods/stylegan2.md").split())
    accuracy, recall = scores["label_accuracy"], scores["recall_digits"]
    assert f"`label_accuracy` {accuracy:.3f}, but `recall_digits` is {recall:g}:" in page


def test_selected_checkpoint_of_cut_equals_recorded_run() -> None:
    """The page explains the negative gain by the selected checkpoint."""
    (seed,) = [i for i, gain in enumerate(RUNS["cut"]["scores"]["gain_inside"]) if gain < 0]
    images = RUNS["cut"]["images_of_best_checkpoint"][seed]
    text = f"With seed {seed} the score selects the checkpoint after {images:,} images"
    assert text in " ".join(read_page("docs/methods/cut.md").split())


def test_every_recorded_run_is_quoted() -> None:
    """A recorded run is quoted by a page, and its command is that of a row."""
    assert {row for _, _, row, _ in RUN_QUOTES} == RUNS.keys()


def test_restorations_are_better_than_without_a_network() -> None:
    """Each one by at least 1 dB than every restoration without a network."""
    gains = {
        (row, score): values
        for row, run in RUNS.items()
        for score, values in run["scores"].items()
        if score.startswith("gain_over_")
    }
    assert len(gains) >= 5
    assert not {key: values for key, values in gains.items() if min(values) < 1}


def test_cut_differs_from_cyclegan_by_recorded_runs() -> None:
    """The mean difference and its confidence interval, which includes 0."""
    cyclegan = read_results("paired", "unpaired", "gain_inside")
    effect = welch(cyclegan, RUNS["cut"]["scores"]["gain_inside"])
    text = " ".join(read_page("docs/methods/cut.md").split())
    assert f"CycleGAN gains {effect.difference:.1f} dB more than CUT in the mean" in text
    assert f"(95 % confidence interval: {effect.low:.1f} to {effect.high:.1f}," in text
    assert effect.low < 0 < effect.high


def test_cpu_seconds_of_commands_equal_benchmark() -> None:
    """The medians of the committed starts, in the order of the table."""
    path = REPOSITORY / "benchmarks" / "startup.json"
    recorded = json.loads(path.read_text(encoding="utf-8"))
    section = read_page("docs/speed.md").partition("## Start\n")[2].partition("\n## ")[0]
    cells = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:1] == "|"]
    medians = [f"{statistics.median(seconds):.1f}" for seconds in recorded.values()]
    assert [cell[1] for cell in cells[2:]] == medians


def read_median_ratio(name: str) -> str:
    """Format the median of the ratios of a comparison in benchmarks/ratios.json."""
    path = REPOSITORY / "benchmarks" / "ratios.json"
    return f"{statistics.median(json.loads(path.read_text(encoding='utf-8'))[name]):.2f}"


def test_ratios_of_speed_equal_benchmarks() -> None:
    """Tables and sentence have the medians of the benchmarks of ratios."""
    page = read_page("docs/speed.md")
    for row, loop, experiments in (
        ("plain PyTorch loop", "plain", ("dcgan", "cgan", "ring")),
        ("tutorial loop over a", "tutorial", ("dcgan", "cgan")),
    ):
        (line,) = [line for line in page.splitlines() if line.startswith("|") and row in line]
        cells = [cell.strip() for cell in line.strip("|").split("|")[1:]]
        medians = [read_median_ratio(f"{name}: lab / {loop}") for name in experiments]
        assert [cell for cell in cells if cell] == medians
    for row, words in (("at its batch of 64", ""), ("data.batch_size=128", " data.batch_size=128")):
        (line,) = [line for line in page.splitlines() if line.startswith("|") and row in line]
        expected = read_median_ratio(f"dcgan{words}: 2 processes / 1 process")
        assert line.endswith(f" | {expected} |")
    for row, compared in (
        ("busy cores: CPU time relative", "CPU time on busy cores / one thread"),
        (
            "with the spin count for idle cores",
            "CPU time on busy cores with the spin count of idle ones / one thread",
        ),
        ("idle cores: time with", "wall time, libgomp's spin count / the library's"),
    ):
        (line,) = [line for line in page.splitlines() if line.startswith("|") and row in line]
        ring, cgan = (read_median_ratio(f"{name}: {compared}") for name in ("ring", "cgan"))
        assert line.endswith(f" | {ring} | {cgan} |")
    compared = "evaluation / generating and extracting"
    dcgan, cgan, sngan = (
        read_median_ratio(f"{name}: {compared}") for name in ("dcgan", "cgan", "sngan")
    )
    sentence = f"takes {dcgan} (`dcgan`), {cgan} (`cgan`) and {sngan} times (`sngan`) as long as"
    assert sentence in " ".join(page.split())


def test_thresholds_of_extractors_equal_record() -> None:
    """Both tables of sensitivities are the committed ones, with every row and score."""
    recorded = json.loads(SENSITIVITY["RECORD"].read_text(encoding="utf-8"))
    page = SENSITIVITY["PAGE"].read_text(encoding="utf-8")
    assert SENSITIVITY["rewrite_tables"](page, recorded) == page
    for row in SENSITIVITY["ROWS"]:
        assert recorded[row.name]["n"] == row.n
        assert list(recorded[row.name]["thresholds"]) == list(row.shown)
    assert f"n = {SENSITIVITY['STYLES'].n} |" in SENSITIVITY["STYLE_HEADER"]


def test_growth_with_number_of_images_equals_benchmark() -> None:
    """The header has the measured numbers of images, each row the seconds and the exponent."""
    recorded = json.loads((REPOSITORY / "benchmarks" / "growth.json").read_text(encoding="utf-8"))
    lines = (REPOSITORY / "docs" / "speed.md").read_text(encoding="utf-8").splitlines()
    assert recorded["numbers"] == list(growth.NUMBERS)
    numbers = " | ".join(f"{number:,}" for number in recorded["numbers"])
    start = lines.index(f"| | {numbers} | exponent |") + 2
    rows = lines[start : start + len(recorded["stages"])]
    for row, (stage, measured) in zip(rows, recorded["stages"].items(), strict=True):
        cells = [f"{seconds:.2f}" for seconds in (*measured["seconds"], measured["exponent"])]
        assert row.startswith(f"| {stage}")
        assert row.endswith(f" | {' | '.join(cells)} |")


def test_quality_by_computing_time_equals_benchmark() -> None:
    """The table has the committed scores of every experiment and tutorial loop."""
    path = REPOSITORY / "benchmarks" / "quality.json"
    recorded = json.loads(path.read_text(encoding="utf-8"))
    assert list(recorded) == [*quality.EXPERIMENTS, *map("script: {}".format, quality.SCRIPTS)]
    assert quality.draw(recorded) in read_page("docs/speed.md")


def test_tables_of_digits_equal_recorded_benchmark() -> None:
    """A cell differs from docs/results/families.json; scripts/record_benchmark.py rewrites it."""
    for page, header, pattern in BENCHMARK["TABLES"]:
        text = page.read_text(encoding="utf-8")
        assert BENCHMARK["rewrite_table"](text, header, BENCHMARK_ROWS, pattern) == text
        for row in BENCHMARK_ROWS:
            assert len(re.findall(pattern.replace(r"(\w+)", row), text)) == 1


def test_references_of_digits_equal_recorded_benchmark() -> None:
    """The rows of real images have the references of the runs; the README repeats them."""
    page = read_page("docs/methods/README.md")
    text = " ".join(read_page("README.md").split())
    for row in BENCHMARK_ROWS.values():
        classes = row["classes"].replace("as asked for", "as requested")
        (line,) = [
            x for x in page.splitlines() if x.startswith(f"| real images, classes {classes}")
        ]
        cells = [cell.strip() for cell in line.strip("|").split("|")][4:7]
        scores = ("fd_digits", "fd_pixels", "label_accuracy")
        assert cells == [
            f"{row['real_images'][score]:.3g}" if score in row["real_images"] else ""
            for score in scores
        ]
        if classes == "as requested":
            distances = [row["real_images"][score] for score in scores[:2]]
            assert "real digits score {:.3g} and {:.2g}.".format(*distances) in text


def test_contradictions_of_distances_are_listed() -> None:
    """README and docs say for which pairs of methods the two distances disagree."""
    pairs = BENCHMARK["list_contradictions"](BENCHMARK_ROWS)
    assert pairs, "no contradiction is left: README and docs/methods/README.md say there is one"
    listed = "; ".join(f"`{one}` and `{other}`" for one, other in pairs)
    assert f"the lower `fd_pixels`: {listed}." in " ".join(
        read_page("docs/methods/README.md").split()
    )
    words = ("one", "two", "three", "four", "five", "six", "seven", "eight")
    count = f"on {words[len(pairs) - 1]} pairs of rows"
    assert count in " ".join(read_page("README.md").split())


def test_no_row_of_digits_is_best_by_both_distances() -> None:
    """The page says that nothing is bold."""
    drawn = [
        BENCHMARK["format_values"](BENCHMARK_ROWS, row, score)
        for row in BENCHMARK_ROWS
        for score in ("fd_digits", "fd_pixels", "label_accuracy")
    ]
    assert "Nothing is bold here." in read_page("docs/methods/README.md")
    assert not [cell for cell in drawn if "**" in cell]


@pytest.mark.parametrize(("page", "text", "row", "score"), BENCHMARK_SENTENCES)
def test_sentence_equals_recorded_benchmark(page: str, text: str, row: str, score: str) -> None:
    """The page of a method repeats its scores of the benchmark."""
    assert text in " ".join(read_page(page).split()), f"{page} no longer says {text!r}"
    assert_is_rounded(text, BENCHMARK_ROWS[row]["scores"][score])


@pytest.mark.parametrize(
    ("page", "form"),
    [
        ("docs/methods/sgan.md", "| `sgan` | {} | {} | {} |"),
        ("docs/methods/README.md", "its classifier reaches {}, {} and {} in these runs"),
    ],
)
def test_accuracy_of_sgan_equals_recorded_benchmark(page: str, form: str) -> None:
    values = BENCHMARK_ROWS["sgan"]["scores"]["accuracy"]
    assert form.format(*(f"{100 * x:.1f} %" for x in values)) in " ".join(read_page(page).split())


def test_baseline_of_sgan_equals_recorded_benchmark() -> None:
    values = BENCHMARK_ROWS["sgan"]["scores"]["baseline_accuracy"]
    cells = " | ".join(f"{100 * value:.1f} %" for value in values)
    assert f"best iteration | {cells} |" in read_page("docs/methods/sgan.md")


def test_readme_output_equals_transcript() -> None:
    """The rows in the README's quick start are rows of the full output of Getting started."""

    def read_cells(page: str) -> list[list[str]]:
        rows = re.findall(r"^ +[│┃](.+)[│┃]", read_page(page), flags=re.MULTILINE)
        return [[cell.split(" ± ")[0].strip() for cell in re.split("[│┃]", row)] for row in rows]

    quick_start = read_cells("README.md")
    assert len(quick_start) == 3
    transcript = read_cells("docs/getting-started.md")
    assert [row for row in quick_start if row not in transcript] == []


def test_transcript_equals_recorded_run() -> None:
    """Getting started shows the scores of docs/results/cgan.json, with four digits."""
    recorded = json.loads((REPOSITORY / "docs" / "results" / "cgan.json").read_text("utf-8"))
    columns = [recorded["scores"][weights] for weights in ("raw", "last", "best")]
    columns.append(recorded["real_images"])
    page = read_page("docs/getting-started.md")
    rows = dict(re.findall(r"^ +│ (\w+)(?: \*)? +│(.+)│$", page, flags=re.MULTILINE))
    assert set(rows) == set(recorded["scores"]["last"])
    for name, row in rows.items():
        for text, scores in zip(row.split("│"), columns, strict=True):
            number = text.split("±")[0].strip()
            assert number == (f"{scores[name]:.4g}" if name in scores else ""), name
    sentences = " ".join(read_page("docs/methods/cgan.md").split())
    best = recorded["scores"]["best"]
    assert f"`fd_digits` {best['fd_digits']:.4g}, `fd_pixels` {best['fd_pixels']:.4g}" in sentences
    assert f"(real digits: {recorded['real_images']['fd_pixels']:.4g})" in sentences
    assert f"`label_accuracy` {best['label_accuracy']:.4g} on the test digits" in sentences
    assert f"{best['fd_digits']:.4g} is from an AMD EPYC" in read_page("README.md")


def test_verdict_counts_equal_studies() -> None:
    """The README's sum of the verdicts is that of the committed results."""
    from gan_lab import studies
    from gan_lab.studies import study_page
    from gan_lab.studies.verdict import count_verdicts

    current = [
        study for study in studies.load_all() if not study_page.is_superseded(RESULTS, study)
    ]
    found = [study_page.read_verdicts(RESULTS, study) for study in current]
    verdicts = [each["full"] for each in found if "full" in each]
    text = " ".join(read_page("README.md").split())
    assert f"{len(verdicts)} [studies]" in text
    assert count_verdicts(verdicts) in text


@pytest.mark.parametrize("page", [page for page in SCRIPT["list_pages"]() if "methods/" in page])
def test_method_page_cites_no_superseded_study(page: str) -> None:
    """A method page names the study with the better design once that is measured."""
    from gan_lab import studies
    from gan_lab.studies import study_page

    cited = set(re.findall(r"\.\./studies/(\w+)\.md", read_page(page))) - {"README"}
    superseded = [
        name for name in sorted(cited) if study_page.is_superseded(RESULTS, studies.load(name))
    ]
    assert superseded == []
