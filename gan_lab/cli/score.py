"""The command that scores images from anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gan_lab.scoring import Scores

app = typer.Typer()
Images = "folder of images, .zip file of images, or .npz file"


@app.command()
def score(
    fakes: Annotated[Path, typer.Argument(help=f"generated images: {Images}")],
    reals: Annotated[Path, typer.Argument(help=f"real images: {Images}")],
    metrics: Annotated[
        str, typer.Option(help="some of fid, kid, prdc and is, separated by commas")
    ] = "fid,kid,prdc",
    extractor: Annotated[
        str | None,
        typer.Option(
            help="inception, lite0, lite0_mid, dinov2, clip, digits or random; default: inception if its weights are "
            "available, else lite0"
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="file with the weights of the extractor")
    ] = None,
    normalize: Annotated[
        bool, typer.Option("--normalize", help="accept float arrays in [0, 1]")
    ] = False,
    reference: Annotated[bool, typer.Option(help="compute the real-vs-real reference")] = True,
    batch_size: Annotated[int, typer.Option(min=1, help="images at a time")] = 100,
    out: Annotated[
        Path | None, typer.Option(help="write the scores and their protocols to a JSON file")
    ] = None,
) -> None:
    """Score generated against real images.

    FID, KID, precision, recall, density, coverage and the inception score, each with its protocol.
    """
    from gan_lab.scoring import score as compute_scores

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
        scores.save(out)
        typer.echo(out)


def _print_table(scores: Scores) -> None:
    from rich.console import Console
    from rich.table import Table

    from gan_lab.utils.numbers import mean_and_spread, rounded

    first = next(iter(scores.values())).protocol
    title = (
        f"{first['fakes']:,} fakes against {first['reals']:,} reals, extractor {first['extractor']}"
    )
    table = Table("score", "value", "real vs. real", "better", title=title, title_justify="left")
    for name, score in scores.items():
        table.add_row(
            name,
            mean_and_spread(score.value, score.spread, 4),
            "" if score.reference is None else rounded(score.reference, 4),
            "higher" if score.higher_is_better else "lower",
        )
    console = Console(markup=False)
    # a narrow terminal wraps lines; rich would truncate names and numbers
    options = console.options.update(max_width=10_000)
    console.width = max(console.width, console.measure(table, options=options).maximum)
    console.print(table, soft_wrap=True)
