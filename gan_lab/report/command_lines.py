"""Commands for a run, which its page offers for copying."""

from __future__ import annotations

import shlex

from gan_lab.runs.run import Run, find_family_class


def command_lines(run: Run) -> list[tuple[str, str]]:
    """List the purpose and the text of each command."""
    folder, overrides = _quote([run.shown_path]), run.command[2:]
    resume = "Resume the training with the same command"
    if run.status != "unfinished":
        overrides = [pair for pair in overrides if not pair.startswith("run.images=")]
        overrides.append(f"run.images={2 * run.budget_images}")
        resume = "Train to twice as many images"
    arguments = f" ARGS={_quote(overrides)}" if overrides else ""
    family = find_family_class(str(run.values.get("family")))
    if getattr(family, "image_to_image", False):
        use = ("Translate images", f"make translate RUN={folder} IN=photos OUT=translated")
    else:
        use = ("Draw samples", f"make sample RUN={folder} N=64 SEED=0")
    return [
        (resume, f"make train EXP={_quote([run.experiment])}{arguments}"),
        use,
        ("Score the best checkpoint", f"make evaluate RUN={folder}"),
        ("Score the last checkpoint", f"make evaluate RUN={folder} ARGS='--weights last'"),
        ("Update this page", f"make report RUN={folder}"),
    ]


def _quote(arguments: list[str]) -> str:
    """Quote arguments as the value of a make variable.

    Two shells parse the value: the user's, and the one that runs the recipe.
    """
    inner = shlex.join(arguments).replace("$", "$$")
    return f'"{inner}"' if "'" in inner and not set(inner) & set('"$`\\!') else shlex.quote(inner)
