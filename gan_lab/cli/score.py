"""The score command, for images from any source."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gan_lab.cli.paths import Overwrite, parse_json, parse_path

if TYPE_CHECKING:
    from gan_lab.scoring import Scores

app = typer.Typer()
IMAGES = "folder of images, .zip file of images, or .npz file"


@app.command()
def score(
    fakes: Annotated[Path, typer.Argument(help=f"Generated images: {IMAGES}.", parser=parse_path)],
    reals: Annotated[Path, typer.Argument(help=f"Real images: {IMAGES}.", parser=parse_path)],
    metrics: Annotated[
        str, typer.Option(help="Comma-separated: fid, kid, prdc, is.")
    ] = "fid,kid,prdc",
    extractor: Annotated[
        str | None,
        typer.Option(
            help="inception, lite0, lite0_mid, dinov2, clip, digits, random or pixels. Default: "
            "inception if its weights are available, else lite0."
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Weights file of the extractor.", parser=parse_path)
    ] = None,
    normalize: Annotated[
        bool, typer.Option("--normalize", help="Accept float arrays in [0, 1].")
    ] = False,
    reference: Annotated[bool, typer.Option(help="Compute the real-vs-real reference.")] = True,
    batch_size: Annotated[int, typer.Option(min=1, help="Batch size of the extractor.")] = 100,
    out: Annotated[
        Path | None,
        typer.Option(help="JSON file for the scores and their protocols.", parser=parse_json),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Score generated images against real images.

    Computes FID, KID, precision, recall, density, coverage and Inception Score, with their
    protocols.
    """
    from gan_lab.scoring import score as compute_scores
    from gan_lab.utils.output import OutputFiles

    if out is not None:
        OutputFiles(overwrite).check(out)
    names = [name.strip() for name in metrics.split(",") if name.strip()]
    scores = compute_scores(
        fakes,
        reals,
        names,
        extractor,
        weights=weights,
        normalize=normalize,
        reference=reference,
        batch_size=batch_size,
        progress=True,
    )
    _print_table(scores)
    if out is not None:
        scores.save(out, overwrite)
        typer.echo(out)


def _print_table(scores: Scores) -> None:
    from rich.table import Table

    from gan_lab.cli.console import make_console
    from gan_lab.utils.numbers import format_rounded, mean_and_spread

    first = next(iter(scores.values())).protocol
    title = (
        f"{first['fakes']:,} fakes against {first['reals']:,} reals, extractor {first['extractor']}"
    )
    table = Table("score", "value", "real vs. real", "better", title=title, title_justify="left")
    for name, score in scores.items():
        table.add_row(
            name,
            mean_and_spread(score.value, score.spread, 4),
            "" if score.reference is None else format_rounded(score.reference, 4),
            "higher" if score.higher_is_better else "lower",
        )
    make_console(table).print(table, soft_wrap=True)
