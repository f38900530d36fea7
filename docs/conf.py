"""Sphinx configuration of the documentation site; ``make docs`` builds it."""

from __future__ import annotations

import ast
import inspect
import os
import re
import sys
from pathlib import Path
from typing import Any

from pygments.lexers.special import TextLexer

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))


def read_version() -> str:
    """Return ``gan_lab.__version__`` without importing the package."""
    tree = ast.parse((REPOSITORY / "gan_lab" / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__version__":
            return str(ast.literal_eval(node.value))
    raise LookupError("gan_lab/__init__.py has no __version__. Set it there.")


project = "GAN lab"
author = "The founders of the GAN lab"
copyright = author
version = release = read_version()

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["studies/results", "_extra"]

myst_heading_anchors = 3

# Docstrings inherited from torch and Lightning use labels of their own documentation.
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_class_signature = "mixed"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# autodoc finds Config, a class attribute of every family, under many names
suppress_warnings = ["ref.python"]

html_theme = "furo"
html_title = f"GAN lab {release}"
html_static_path = ["_static"]
html_css_files = [("print.css", {"media": "print"})]
# make demo trains the runs of the demo page and puts their pages here.
EXTRA = Path(__file__).parent / "_extra"
html_extra_path = [str(EXTRA)] if EXTRA.is_dir() else []
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}

# arXiv ids that are not the text of a link yet
ARXIV = re.compile(r"(?<!\[)arXiv (\d{4}\.\d{4,5})")
MAX_METHOD_PICTURES = 3
CHAPTERS = ("methods/README", "studies/README")
PUBLIC_NAMES = "<!-- public names -->"
DEMO = "<!-- demo -->"
DEMO_RUNS = {
    "cgan": "Conditional GAN: ten digits",
    "dcgan": "DCGAN: digits",
    "pix2pix": "pix2pix: horses to zebras",
}
# Without these runs the demo is a model that ships with the package.
ZOO_DEMO = "zoo"
ZOO_MODEL = "digits"
ZOO_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>R3GAN: ten digits</title>
<style>body { font-family: sans-serif; background: white; color: black }</style>
<main>
<p><label>Digit <select id="label">OPTIONS</select></label>
SNIPPET
</main>
<script>document.getElementById("label").addEventListener("change", draw);</script>
</html>
"""
DEMO_SCRIPT = """\
<script>
for (const button of document.querySelectorAll("button[data-run]")) {
  button.addEventListener("click", () => {
    const frame = document.getElementById("demo-frame");
    frame.src = `demo/${button.dataset.run}.html`;
    frame.title = button.textContent;
    frame.hidden = false;
  });
}
</script>"""


def add_table_of_contents(app: Any, name: str, source: list[str]) -> None:
    """Append a hidden table of contents to a chapter's index: the pages it links, in that order."""
    if name in CHAPTERS:
        pages = dict.fromkeys(re.findall(r"\]\((\w+)\.md[)#]", source[0]))
        source[0] += "\n".join(["", "```{toctree}", ":hidden:", "", *pages, "```", ""])


def add_paper_links(app: Any, name: str, source: list[str]) -> None:
    """Link the papers that the pages of studies and methods name by their arXiv ids."""
    if name.startswith(("studies/", "methods/")):
        source[0] = ARXIV.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", source[0])


def add_method_pictures(app: Any, name: str, source: list[str]) -> None:
    """Show samples of the methods that a study compares, with links to their pages."""
    folder, _, study = name.partition("/")
    if folder != "studies" or study == "README":
        return
    pictures = [
        f"[{family}](../methods/{family}.md):\n\n![{caption}]({picture})"
        for family in list_families(study)
        for caption, picture in find_pictures(family)[:1]
    ][:MAX_METHOD_PICTURES]
    if pictures:
        note = "These are from the methods' own experiments, not from the runs of this study."
        section = "\n\n".join(["## Samples of its methods", note, *pictures])
        source[0] = source[0].replace("## Design\n", f"{section}\n\n## Design\n", 1)


def list_families(study: str) -> list[str]:
    """List the families of the arms of a study, in order; none if it trains none."""
    from gan_lab import studies
    from gan_lab.config import loading

    experiments = loading.experiments()
    names = [arguments.split()[0] for arguments in studies.load(study).arms.values()]
    trained = dict.fromkeys(name for name in names if name in experiments)
    return [*dict.fromkeys(loading.load(name).config.family for name in trained)]


def find_pictures(family: str) -> list[tuple[str, str]]:
    """List caption and path, relative to docs/studies, of the pictures of a method's page."""
    page = REPOSITORY / "docs" / "methods" / f"{family}.md"
    found = re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    return [
        (
            caption,
            Path(os.path.relpath(page.parent / path, page.parent.parent / "studies")).as_posix(),
        )
        for caption, path in found
    ]


def add_public_names(app: Any, name: str, source: list[str]) -> None:
    """Document every name of ``gan_lab.__all__``.

    The names are loaded lazily, so automodule does not see them.
    """
    if name == "reference":
        source[0] = source[0].replace(PUBLIC_NAMES, describe_public_names())


def describe_public_names() -> str:
    """Return the autodoc directives of the public names of the package."""
    import gan_lab

    lines = ["```{eval-rst}"]
    for public_name in gan_lab.__all__:
        value = getattr(gan_lab, public_name)
        if inspect.ismodule(value):
            lines.append(f".. automodule:: {value.__name__}")
        else:
            kind = "class" if inspect.isclass(value) else "function" if callable(value) else "data"
            lines.append(f".. auto{kind}:: gan_lab.{public_name}")
            if kind == "class":
                # The families' pages in configuration.md list their keys.
                lines.append("   :exclude-members: Config")
    return "\n".join([*lines, "```"])


def add_demo(app: Any, name: str, source: list[str]) -> None:
    """Add a button for each run of the demo whose page was built.

    A click loads the page in a frame.
    """
    if name != "demo":
        return
    runs = {
        run: title for run, title in DEMO_RUNS.items() if (EXTRA / "demo" / f"{run}.html").is_file()
    }
    note = ""
    if not runs:
        runs = {ZOO_DEMO: "R3GAN: ten digits"}
        note = (
            "This is the generator of `zoo:digits` alone. `make demo` trains three runs, whose "
            "pages replace it."
        )
    buttons = "\n".join(
        f'<button type="button" data-run="{run}">{title}</button>' for run, title in runs.items()
    )
    style = "width: 100%; height: 80vh; border: 1px solid"
    frame = f'<iframe id="demo-frame" hidden style="{style}"></iframe>'
    source[0] = source[0].replace(DEMO, f"<p>{buttons}</p>\n{frame}\n{DEMO_SCRIPT}\n\n{note}")


def write_zoo_demo(app: Any, error: Exception | None) -> None:
    """Write the page of a shipped model for a site without runs of the demo."""
    if error is not None or any((EXTRA / "demo").glob("*.html")):
        return
    render_zoo_demo(Path(app.outdir) / "demo")


def render_zoo_demo(folder: Path) -> Path:
    """Write page and script of a shipped generator, which runs in the browser; return the page."""
    from gan_lab.report import embedding, live
    from gan_lab.runs import zoo
    from gan_lab.runs.ema_networks import load_ema_networks

    folder.mkdir(parents=True, exist_ok=True)
    model = live.describe_networks(load_ema_networks(zoo.ZOO_FOLDER / ZOO_MODEL))
    script = embedding.render_script(model)
    (folder / embedding.SCRIPT_NAME).write_text(script, encoding="utf-8")
    options = "".join(f"<option>{name}</option>" for name in model["classes"])
    # the lines that the model's card recommends, with the class of the menu
    snippet = embedding.LATENTS_SNIPPET.replace(
        "label: 0", 'label: document.getElementById("label").value'
    )
    page = folder / f"{ZOO_DEMO}.html"
    page.write_text(
        ZOO_PAGE.replace("OPTIONS", options).replace("SNIPPET", snippet), encoding="utf-8"
    )
    return page


def make_focusable(
    app: Any, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Let the keyboard reach blocks of code and tables, which scroll on narrow screens."""
    body = context.get("body", "").replace("<pre>", '<pre tabindex="0">')
    context["body"] = body.replace(
        '<div class="table-wrapper', '<div tabindex="0" class="table-wrapper'
    )


def setup(app: Any) -> None:
    """Connect the hooks of this file."""
    # GitHub draws Mermaid diagrams. Drawing them here would load a script from another server.
    app.add_lexer("mermaid", TextLexer)
    app.connect("source-read", add_table_of_contents)
    app.connect("source-read", add_paper_links)
    app.connect("source-read", add_method_pictures)
    app.connect("source-read", add_public_names)
    app.connect("source-read", add_demo)
    app.connect("html-page-context", make_focusable)
    app.connect("build-finished", write_zoo_demo)
