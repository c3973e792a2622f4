"""Put template, style, scripts and data together into one HTML file."""

import base64
import glob
import gzip
import hashlib
import json
import os
from importlib.resources import files
from pathlib import Path

from skfactors.files import remove_leftovers, replaced_file
from skfactors.reports.explorer.payload import examples_section, sections_of

# In the order in which they are run; they share one scope.
SCRIPTS = (
    "data.js",
    "state.js",
    "search.js",
    "list.js",
    "charts.js",
    "contexts.js",
    "factor.js",
    "map.js",
    "texts.js",
    "names.js",
    "main.js",
)


def write_page(path, report, *, about, layout, method, examples=()):
    """
    Write the explorer of a report.

    Parameters
    ----------
    path : str or Path
        The file. It is replaced as a whole, or stays as it was.
    report : FactorReport
    about : str
        What the report is of, for the heading.
    layout : DataFrame of shape (n_components, 2) or None
        Where each factor lies on the map.
    method : str
        What the map was made by.
    examples : sequence of str, DataFrame or Explanation, default=()
        What to show above the factors.

    Raises
    ------
    OSError
        If the file cannot be written; the message names it.
    TypeError
        If an example cannot be shown.
    """
    path = Path(path)
    if os.path.isdir(path):
        raise IsADirectoryError(f"{path} is a folder; name a file, such as {path / 'factors.html'}.")
    if not os.path.isdir(path.parent):
        raise FileNotFoundError(f"{path} cannot be written: {path.parent} is not a folder; make it first.")
    names = report.summary()["name"]
    sections = sections_of(report, about, layout, method) | {"examples": examples_section(examples)}
    page = page_of(sections, names[names != ""].to_dict())
    try:
        with replaced_file(path, text=True) as file:
            file.write(page)
    except OSError as error:
        raise type(error)(f"{path} cannot be written: {error.strerror}.") from error
    remove_leftovers(path.parent, f".{glob.escape(path.name)}")


def page_of(sections, names):
    """
    Return the page that shows some data.

    Parameters
    ----------
    sections : dict of str to object
        What JSON can hold, by name.
    names : dict of int to str
        Of factors, those that have one.

    Returns
    -------
    str
    """
    folder = files(__package__)
    style = folder.joinpath("style.css").read_text(encoding="utf-8")
    script = "\n".join(folder.joinpath("scripts", name).read_text(encoding="utf-8") for name in SCRIPTS)
    # Python's JSON escapes all but ASCII and base64 has no "<": no text can end the element that it is in.
    data = "\n".join(
        f'<script type="application/octet-stream" id="data-{name}">{_packed(section)}</script>'
        for name, section in sections.items()
    )
    parts = {
        "{{policy}}": (
            f"default-src 'none'; script-src {_source_hash(script)}; style-src {_source_hash(style)}; "
            "form-action 'none'; base-uri 'none'"
        ),
        "{{style}}": style,
        "{{data}}": data,
        "{{script}}": script,
        # The last, since it may hold any text, marks of the template among them. It has no "<" either.
        "{{names}}": json.dumps(names, ensure_ascii=True).replace("<", "\\u003c"),
    }
    page = folder.joinpath("template.html").read_text(encoding="utf-8")
    for mark, part in parts.items():
        page = page.replace(mark, part)
    return page


def _packed(section):
    text = json.dumps(section, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode("ascii"), compresslevel=6, mtime=0)).decode("ascii")


def _source_hash(content):
    digest = hashlib.sha256(content.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
