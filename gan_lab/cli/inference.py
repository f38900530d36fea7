"""Commands that use a trained run; each imports what it needs inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gan_lab.utils.errors import UserError

app = typer.Typer()
Places = Annotated[
    list[str] | None, typer.Argument(help="where the data is now, such as data.root=photos")
]
Run = Annotated[Path, typer.Argument(help="a run folder, runs/<experiment>/<run id>")]
Seed = Annotated[int, typer.Option(min=0)]
Png = Annotated[Path | None, typer.Option(help="PNG file; default: in the run folder")]


@app.command()
def sample(
    run: Run,
    n: Annotated[
        int | None,
        typer.Option("--n", "-n", min=1, help="number of images; 64, or 16 that move in a film"),
    ] = None,
    label: Annotated[
        str | None, typer.Option("--label", "--class", help="class name or number")
    ] = None,
    seed: Seed = 0,
    interpolate: Annotated[
        int, typer.Option(help="draw latent walks of this many steps instead, one in each row")
    ] = 0,
    code: Annotated[
        int | None, typer.Option(help="vary this code along each row (generators with codes)")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="write each sample as a PNG of its own into a new folder")
    ] = None,
    truncation: Annotated[
        float, typer.Option(help="share of the latents' length, for likelier images")
    ] = 1.0,
    video: Annotated[
        Path | None, typer.Option(help="write a film of latent walks, .gif or .mp4")
    ] = None,
    out: Png = None,
) -> None:
    """Draw samples or latent walks into a PNG, a folder or a film."""
    from gan_lab import load_generator
    from gan_lab.images import save_each, save_grid, save_video

    given = [
        option
        for option, value in (("--folder", folder), ("--video", video), ("--code", code))
        if value is not None
    ]
    given += ["--interpolate"] if interpolate else []
    if len(given) > 1:
        raise UserError(
            f"{' and '.join(given)}: each says what to make of the samples, so give one of them"
        )
    if truncation != 1 and given in (["--code"], ["--interpolate"]):
        raise UserError(
            f"--truncation is for samples and films, not for {given[0]}: leave one of them out"
        )
    generator = load_generator(run, exact=video is None)
    n = n or (64 if video is None else 16)
    across = generator.columns
    if folder is not None:
        save_each(
            generator(n, label, seed, truncation=truncation),
            folder,
            seed,
            generator.names_of(n, label),
        )
        typer.echo(folder)
        return
    if video is not None:
        frames = generator.film(n, label=label, seed=seed, truncation=truncation)
        save_video(frames, min(n, across if n > 16 else max(1, round(n**0.5))), video)
        typer.echo(video)
        return
    if code is not None:
        images, columns = generator.vary_code(code, max(1, n // 10), seed)
    elif interpolate:
        images, columns = (
            generator.walk(max(1, n // interpolate), interpolate, label, seed),
            interpolate,
        )
    else:
        images, columns = generator(n, label, seed, truncation=truncation), min(n, across)
    kind = f"code{code}" if code is not None else f"walk{interpolate}" if interpolate else "sample"
    name = kind + f"-n{n}-seed{seed}" + (f"-truncation{truncation}" if truncation != 1 else "")
    out = out or _default_png(run, name + ("" if label is None else f"-class{label}"))
    save_grid(images, columns, out)
    typer.echo(out)


@app.command()
def reconstruct(
    run: Run,
    overrides: Places = None,
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="number of images")] = 32,
    out: Png = None,
) -> None:
    """Draw held-out images beside their reconstructions."""
    from gan_lab.inference import autoencoding

    out = out or _default_png(run, f"reconstruct-n{n}")
    autoencoding.reconstruct(run, n, out, overrides or [])
    typer.echo(out)


@app.command()
def interpolate(
    run: Run,
    overrides: Places = None,
    steps: Annotated[
        int, typer.Option(min=2, help="images from one to the next, including both")
    ] = 8,
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="number of pairs")] = 8,
    out: Png = None,
) -> None:
    """Draw interpolations between held-out images.

    The lines are straight in the latent space of an encoder, one in each row.
    """
    from gan_lab.inference import autoencoding

    out = out or _default_png(run, f"interpolate-n{n}-steps{steps}")
    autoencoding.interpolate(run, n, steps, out, overrides or [])
    typer.echo(out)


@app.command()
def translate(
    run: Run,
    source: Annotated[Path, typer.Argument(help="an image, or a folder of images", metavar="IN")],
    out: Annotated[
        Path, typer.Argument(help="folder for the translated images, as PNG of the same size")
    ],
    direction: Annotated[
        str, typer.Option(help="AtoB is the direction in which the run was trained; or BtoA")
    ] = "AtoB",
) -> None:
    """Translate images of any size."""
    from gan_lab.inference import translation

    count, skipped = translation.translate(run, source, out, direction)
    typer.echo(
        f"{count} images translated into {out}" + (f", {skipped} skipped" if skipped else "")
    )


@app.command()
def project(
    run: Run,
    source: Annotated[
        Path | None,
        typer.Argument(
            help="an image, or a folder of images; without: held-out ones", metavar="IN"
        ),
    ] = None,
    overrides: Places = None,
    label: Annotated[
        str | None, typer.Option("--label", "--class", help="class; without: the best of all")
    ] = None,
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="number of held-out images")] = 8,
    out: Png = None,
) -> None:
    """Find the latents whose images are nearest to given ones.

    A picture shows the way to each, and what is left of the difference; the latents lie beside it as JSON.
    """
    from gan_lab.inference import projection

    out = out or _default_png(run, "project")
    places = overrides or []
    if (
        source is not None and "=" in str(source) and not source.exists()
    ):  # no image, but where the data is
        source, places = None, [str(source), *places]
    found = projection.project_files(run, source, out, label, n, places)
    for name, each in found:
        of = "" if each.label is None else f", class {each.label}"
        typer.echo(f"{name}: {each.errors[-1]:.1f} of 255 levels apart{of}")
    typer.echo(
        f"median {projection.typical_error(found):.1f} (root mean square over the pixels); {out}"
    )


@app.command()
def export(
    run: Run,
    out: Annotated[
        Path | None, typer.Option(help="folder; default: export in the run folder")
    ] = None,
    format: Annotated[
        str, typer.Option(help="safetensors; or torch or onnx, for such a file beside them")
    ] = "safetensors",
    weights: Annotated[str, typer.Option(help="best or last")] = "best",
) -> None:
    """Write the networks into files that others can use.

    Weights as safetensors, a config with the networks as operations of torch, and a model card.
    """
    from gan_lab.inference import export as exporting

    typer.echo(exporting.export(run, out or run / "export", format, weights))


@app.command()
def publish(
    run: Run,
    to: Annotated[
        str, typer.Option(help="a folder; or hf:owner/name, a model of the Hugging Face hub")
    ],
    format: Annotated[
        str, typer.Option(help="safetensors; or torch or onnx, for such a file beside them")
    ] = "safetensors",
    weights: Annotated[str, typer.Option(help="best or last")] = "best",
    page: Annotated[
        bool, typer.Option(help="with the page of the run, which shows training images too")
    ] = True,
) -> None:
    """Publish a run: its export, its page and a card.

    In a folder, or from there on the Hugging Face hub, if a token is here (HF_TOKEN, or `hf auth login`).
    """
    from gan_lab.inference import publish as publishing

    typer.echo(publishing.publish(run, to, format, weights, page))


@app.command()
def probe(
    run: Run,
    overrides: Places = None,
    labels: Annotated[int, typer.Option(min=1, help="labelled images to learn from")] = 100,
    weights: Annotated[str, typer.Option(help="best or last")] = "last",
    seed: Seed = 0,
) -> None:
    """Measure how useful the learned features are.

    Logistic regression on the features of a run's discriminator or encoder, and on raw pixels; written to probe.json.
    """
    from gan_lab.cli import console
    from gan_lab.inference import linear_probe

    console.print_probe(linear_probe.probe(run, labels, weights, seed, overrides or []), run)


def _default_png(run: Path, name: str) -> Path:
    return (run if run.is_dir() else run.parent) / f"{name}.png"
