"""What each forked training would compute again: the server of ``processes.py`` imports it once."""

from gan_lab.metrics.explanations import list_explanations
from gan_lab.report import run_page

list_explanations()
templates = run_page._load_templates()
for name in templates.list_templates(extensions=["html"]):
    templates.get_template(name)
