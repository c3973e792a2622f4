"""
Run the Python of a page, and put what it prints in place of what the page says that it prints.

    python docs/run_page.py docs/getting_started.md

A block ``text`` right after a block ``python`` is what that block prints. Pictures that blocks save are moved to
``docs/_static``, with the name of the page in front. All else that they write goes to a folder that is thrown away.
"""

import argparse
import contextlib
import io
import os
import re
import tempfile
from pathlib import Path

BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<output>.*?)^```\n)?", re.MULTILINE | re.DOTALL)
STATIC = Path(__file__).parent.resolve() / "_static"
WIDTH = 100


def with_outputs(text):
    """Return a page with the outputs that its blocks really have."""
    namespace = {"__name__": "__main__"}

    def run(block):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block["code"], "page", "exec"), namespace)
        if block["output"] is None:
            return block[0]
        output = "\n".join(line.rstrip() for line in printed.getvalue().strip("\n").splitlines())
        return f"```python\n{block['code']}```\n\n```text\n{output}\n```\n"

    return BLOCK.sub(run, text)


def main():
    """Run one page in a folder of its own."""
    parser = argparse.ArgumentParser(description="Put what a page's Python prints into the page.")
    parser.add_argument("page", type=Path, help="such as docs/getting_started.md")
    page = parser.parse_args().page.resolve()
    os.environ["COLUMNS"] = str(WIDTH)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        page.write_text(with_outputs(page.read_text(encoding="utf-8")), encoding="utf-8")
        for picture in Path().glob("*.png"):
            (STATIC / f"{page.stem}_{picture.name}").write_bytes(picture.read_bytes())


if __name__ == "__main__":
    main()
