"""Command lines to copy, for a run."""

from __future__ import annotations

import shlex

from gan_lab.runs.run import Run, family_of


def command_lines(run: Run) -> list[tuple[str, str]]:
    """List the purpose and the text of each command."""
    folder, words = _value([run.place]), run.words[2:]
    resume = "Go on training: the same command continues it"
    if run.ended:
        words = [*(word for word in words if not word.startswith("run.images=")), f"run.images={2 * run.wanted}"]
        resume = "Train on, to twice as many images"
    arguments = f" ARGS={_value(words)}" if words else ""
    family = family_of(str(run.values.get("family")))
    if getattr(family, "image_to_image", False):
        use = ("Translate images", f"make translate RUN={folder} IN=photos OUT=translated")
    else:
        use = ("Draw samples", f"make sample RUN={folder} N=64 SEED=0")
    return [
        (resume, f"make train EXP={_value([run.experiment])}{arguments}"),
        use,
        ("Score the best generator", f"make evaluate RUN={folder}"),
        ("Score the last one", f"make evaluate RUN={folder} ARGS='--weights last'"),
        ("Draw this page again", f"make report RUN={folder}"),
    ]


def _value(words: list[str]) -> str:
    """Words as the value of a variable of make: two shells read it, that of the user and that of the recipe."""
    inner = shlex.join(words).replace("$", "$$")
    return f'"{inner}"' if "'" in inner and not set(inner) & set('"$`\\!') else shlex.quote(inner)
