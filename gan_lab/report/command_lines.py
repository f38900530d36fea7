"""Commands for a run, which its page offers for copying."""

from __future__ import annotations

import shlex

from gan_lab.runs.run import Run, find_family_class


def command_lines(run: Run) -> list[tuple[str, str]]:
    """List the purpose and the text of each command, in the form in which the run was started."""
    folder, overrides = run.shown_path, run.command[2:]
    resume = "Resume the training with the same command"
    if run.status != "unfinished":
        overrides = [pair for pair in overrides if not pair.startswith("run.images=")]
        overrides.append(f"run.images={2 * run.budget_images}")
        resume = "Train to twice as many images"
    family = find_family_class(str(run.values.get("family")))
    is_translator = getattr(family, "image_to_image", False)
    purpose = "Translate images" if is_translator else "Draw samples"
    if run.started_by_make:
        quoted = _quote_for_make([folder])
        arguments = f" ARGS={_quote_for_make(overrides)}" if overrides else ""
        train = f"make train EXP={_quote_for_make([run.experiment])}{arguments}"
        use = f"make sample RUN={quoted} N=64 SEED=0"
        if is_translator:
            use = f"make translate RUN={quoted} IN=photos OUT=translated"
        evaluate = f"make evaluate RUN={quoted}"
        evaluate_last = f"make evaluate RUN={quoted} ARGS='--weights last'"
        report = f"make report RUN={quoted}"
    else:
        train = shlex.join(["gan-lab", "train", run.experiment, *overrides])
        use = shlex.join(["gan-lab", "sample", folder, "--n", "64", "--seed", "0"])
        if is_translator:
            use = shlex.join(["gan-lab", "translate", folder, "photos", "translated"])
        evaluate = shlex.join(["gan-lab", "evaluate", folder])
        evaluate_last = shlex.join(["gan-lab", "evaluate", folder, "--weights", "last"])
        report = shlex.join(["gan-lab", "report", folder])
    if run.values.get("data.name") == "python":
        train = _call_train(run.experiment, overrides)
    return [
        (resume, train),
        (purpose, use),
        ("Score the best checkpoint", evaluate),
        ("Score the last checkpoint", evaluate_last),
        ("Update this page", report),
    ]


def _call_train(experiment: str, overrides: list[str]) -> str:
    """Return a call of ``gan_lab.train``: a data set from Python has no command."""
    # gan_lab.train adds this one
    overrides = [pair for pair in overrides if pair != "data.name=python"]
    arguments = f", overrides={overrides!r}" if overrides else ""
    return f"gan_lab.train({experiment!r}, data=...{arguments})"


def _quote_for_make(arguments: list[str]) -> str:
    """Quote arguments as the value of a make variable.

    Two shells parse the value: the user's, and the one that runs the recipe.
    """
    inner = shlex.join(arguments).replace("$", "$$")
    return f'"{inner}"' if "'" in inner and not set(inner) & set('"$`\\!') else shlex.quote(inner)
