"""Command lines to copy, for a run."""

from __future__ import annotations

import shlex

from gan_lab.report.reading import Run, family_of


def command_lines(run: Run) -> list[tuple[str, str]]:
    """List the purpose and the text of each command."""
    folder, words = shlex.quote(str(run.folder)), run.words[2:]
    resume = "Go on training: the same command continues it"
    if run.ended:
        words = [*(word for word in words if not word.startswith("run.images=")), f"run.images={2 * run.wanted}"]
        resume = "Train on, to twice as many images"
    own = " ".join(shlex.quote(word) for word in words)
    arguments = f" ARGS={shlex.quote(own)}" if own else ""
    family = family_of(str(run.values.get("family")))
    if getattr(family, "image_to_image", False):
        use = ("Translate images", f"make translate RUN={folder} IN=photos OUT=translated")
    else:
        use = ("Draw samples", f"make sample RUN={folder} N=64 SEED=0")
    return [
        (resume, f"make train EXP={shlex.quote(run.experiment)}{arguments}"),
        use,
        ("Score the best generator", f"make evaluate RUN={folder}"),
        ("Score the last one", f"make evaluate RUN={folder} ARGS='--weights last'"),
        ("Draw this page again", f"make report RUN={folder}"),
    ]
