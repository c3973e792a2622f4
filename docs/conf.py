"""How Sphinx builds the site; CONTRIBUTING.md has the command."""

import re
import sys
from pathlib import Path

from sphinx.util.nodes import make_refnode
from transformers.utils import logging

import skfactors

# For gallery.py.
sys.path.insert(0, str(Path(__file__).parent))

project = "skfactors"
author = copyright = "The skfactors developers"
release = version = skfactors.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "auto_examples/**/*.ipynb", "auto_examples/**/*.py"]
templates_path = ["_templates"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
default_role = "code"

myst_heading_anchors = 3

# numpydoc would list the methods that scikit-learn's base classes bring, each with references into its own guide.
numpydoc_show_class_members = False
autodoc_member_order = "bysource"
# Docstrings give types, with shapes, where annotations only repeat them.
autodoc_typehints = "none"
autosummary_generate = True
toc_object_entries_show_parents = "hide"

nitpicky = True
# Names of other projects. Links to them would need their inventories, and so a network, in every build.
nitpick_ignore_regex = [("py:.*", r"(sklearn|scipy|numpy|pandas|matplotlib|rich|torch)\..*")]

html_theme = "pydata_sphinx_theme"
html_title = "skfactors"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
# The sidebar lists pages of a section, which these do not have.
html_sidebars = {
    page: []
    for page in (
        "architecture",
        "changelog",
        "comparison",
        "contributing",
        "faq",
        "getting_started",
        "gpu",
        "index",
        "performance",
        "plots",
        "reliability",
        "saliency",
        "scaling",
        "troubleshooting",
        "user_guide",
        "your_model",
    )
}
html_context = {"default_mode": "auto"}
html_theme_options = {
    "header_links_before_dropdown": 6,
    "navbar_align": "left",
    "navigation_with_keys": False,
    "show_prev_next": True,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
}

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"\.py$",
    # What the experiments share is no example.
    "ignore_pattern": r"__init__\.py|common\.py",
    "within_subsection_order": "gallery.quickstart_first",
    "image_scrapers": "gallery.written_pictures",
    # Of examples that draw nothing, or were not run.
    "default_thumb_file": str(Path(__file__).parent / "explorer_map.png"),
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "write_computation_times": False,
    "show_signature": False,
    "min_reported_time": 1,
}
# Bars are nothing that a page can show.
logging.disable_progress_bar()
# The examples take minutes each: `-D plot_gallery=1` runs them and shows what they print.
plot_gallery = "False"


def link_bare_names(app, environment, node, content):
    """Resolve what a docstring calls by its bare name, as `help()` shows it, where one public object has that name."""
    if node.get("refdomain") != "py":
        return None
    # A class may be called by any module that has it; it is documented in one.
    name = re.sub(r"^skfactors\.[a-z_.]*(?=[A-Z])", "", node["reftarget"])
    found = [
        (full_name, entry)
        for full_name, entry in environment.get_domain("py").objects.items()
        if f".{full_name}".endswith(f".{name}") and not entry.aliased
    ]
    if len(found) != 1:
        return None
    full_name, entry = found[0]
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, content, full_name)


def setup(app):
    """Connect the above."""
    app.connect("missing-reference", link_bare_names)
