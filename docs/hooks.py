"""What mkdocs cannot do alone: pages made from code, and links from docs/ to files that are not on the site.

The tutorials are the notebooks in examples/notebooks, `reference/commands.md` is what `mpcc COMMAND --help` prints.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
NOTEBOOKS = {
    "tutorial.md": "first_private_vit",
    "tutorial-training.md": "train_under_a_budget",
    "tutorial-serving.md": "serve_a_private_vit",
}
"""Page -> the notebook in examples/notebooks that it is."""
OUTSIDE = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+(?!docs/)[\w./#-]+)\)")
"""A link that leaves docs/."""


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made."""
    for page, name in NOTEBOOKS.items():
        files.append(File.generated(config, page, content=tutorial(ROOT / "examples" / "notebooks" / f"{name}.ipynb")))
    files.append(File.generated(config, "reference/commands.md", content=commands()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links to the repository's other files become their names: where they are on the web is not for the site to know."""
    depth = page.file.src_uri.count("/")

    def named(found: re.Match[str]) -> str:
        text, target = found[1], found[2]
        inside = target.count("../") <= depth
        return found[0] if inside else f"{text} (`{target.lstrip('./').partition('#')[0]}`)"

    return OUTSIDE.sub(named, markdown)


def tutorial(notebook: Path) -> str:
    """The cells of a notebook as Markdown."""
    parts = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    source = notebook.relative_to(ROOT).as_posix()
    return "\n\n".join([*parts, f"This page is the notebook `{source}`, which a test runs."]) + "\n"


def commands() -> str:
    """The help of every command, and the exit codes."""
    from typer.testing import CliRunner

    from mpcc.cli import app

    runner = CliRunner(env={"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1"})
    names = [command.name for command in app.registered_commands if not command.hidden]
    parts = [EXIT_CODES]
    for name in names:
        text = runner.invoke(app, [str(name), "--help"]).output
        parts.append(f"## mpcc {name}\n\n```text\n{text.strip()}\n```")
    return "\n\n".join(parts) + "\n"


EXIT_CODES = """# Commands
Results go to stdout, messages to stderr. With `--json`, stdout holds one JSON document, errors included.

| exit code | meaning |
| ---: | --- |
| 0 | success |
| 1 | a check failed, or a budget cannot be met |
| 2 | wrong use, or an input that cannot be used; nothing was written |
| 70 | a bug in mpcc: please report it with the traceback |
| 130 | interrupted; what was there before is unchanged |

`mpcc --debug COMMAND ...` (or `--debug` at the end) shows what libraries warn of, and where an error comes from.
`mpcc --install-completion` completes commands and options in bash, zsh and fish."""
