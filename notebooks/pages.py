"""Pages of the docs site that are made when it is built: the README, and the notebooks executed.

In: mkdocs' files. Out: `index.md` from the README, with its links as they are on the site, and
a page a notebook, with the outputs that the notebooks in the repository are kept without.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.structure.files import File, Files
from nbclient import NotebookClient
from nbconvert import MarkdownExporter

HERE = Path(__file__).parent
ROOT = HERE.parent
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)([^)]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the made pages to those of the docs folder."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "index.md", content=_site_links(readme)))
    for path in sorted(HERE.glob("*.ipynb")):
        body, pictures = _executed(path)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=body))
        for name, content in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn links that lead out of the docs folder into plain text."""
    return _LINK.sub(lambda m: m[1] if m[2].startswith("../") else m[0], markdown)


def _site_links(text: str) -> str:
    # docs/x.md is x.md there; files of the repository have no page.
    def replaced(match: re.Match[str]) -> str:
        label, target = match.groups()
        return f"[{label}]({target.removeprefix('docs/')})" if target.startswith("docs/") else label

    return _LINK.sub(replaced, text).replace("](docs/images/", "](images/")


def _executed(path: Path) -> tuple[str, dict[str, bytes]]:
    notebook = nbformat.read(path, as_version=4)
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    with tempfile.TemporaryDirectory() as runs:
        for cell in notebook.cells:
            if "parameters" in cell.metadata.get("tags", []):
                cell.source += f'\nOVERRIDES["run.dir"] = "{runs}"'
        resources = {"metadata": {"path": str(HERE)}}
        NotebookClient(notebook, timeout=600, resources=resources).execute()
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source = cell.source.rpartition("\n")[0]
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
    exporter = MarkdownExporter()
    body, made = exporter.from_notebook_node(
        notebook, resources={"unique_key": path.stem, "output_files_dir": f"{path.stem}_files"}
    )
    return body.replace(".ipynb)", ".md)"), dict(made.get("outputs", {}))
