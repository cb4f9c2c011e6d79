"""Runs two notebooks in real kernels, prints their scores, and writes them as HTML.

Usage: ``python notebooks/demo.py FOLDER``; ``make demo`` calls it.
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert import HTMLExporter

FOLDER = Path(__file__).parent
NOTEBOOKS = ("quickstart.ipynb", "scoring_a_dataset.ipynb")
METADATA_KEY = "isolated_magic"  # marks the output of a run
QUIET_KERNEL = ["--IPKernelApp.log_level=ERROR"]  # it warns of TCP without encryption, which is loopback's here


def first_line(source: str) -> str:
    """What a cell is, on one line."""
    return source.strip().split("\n", 1)[0][:90]


def show_scores(cell: nbformat.NotebookNode) -> None:
    """Print what the runs of a cell came to."""
    for output in cell.outputs:
        if METADATA_KEY in output.get("metadata", {}):
            for line in output["data"]["text/plain"].splitlines():
                print(f"           {line}")
        elif output.output_type == "error":
            print(f"           {output.ename}: {output.evalue}")


def run(notebook: nbformat.NotebookNode) -> None:
    """Execute the notebook, cell by cell, with progress."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, 1):
        cell.metadata["demo_number"] = number

    def started(cell: nbformat.NotebookNode, **_: object) -> None:
        if cell.cell_type == "code":
            print(f"  [{cell.metadata['demo_number']:2}/{len(code)}] {first_line(cell.source)}", flush=True)

    def finished(cell: nbformat.NotebookNode, **_: object) -> None:
        if cell.cell_type == "code":
            show_scores(cell)

    folder = {"metadata": {"path": str(FOLDER)}}
    client = NotebookClient(
        notebook, timeout=120, resources=folder, record_timing=False, extra_arguments=QUIET_KERNEL
    )
    client.on_cell_start, client.on_cell_complete = started, finished
    client.execute()


def main() -> int:
    """Run them. Returns the exit status."""
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ".build").resolve()
    target.mkdir(parents=True, exist_ok=True)
    pages = []
    for name in NOTEBOOKS:
        notebook = nbformat.read(FOLDER / name, as_version=4)
        print(f"Running {name} in a real kernel:\n")
        try:
            run(notebook)
        except CellExecutionError as problem:
            print(f"\nA cell failed:\n{problem}", file=sys.stderr)
            return 1
        page = (target / name).with_suffix(".html")
        page.write_text(HTMLExporter().from_notebook_node(notebook)[0], encoding="utf-8")
        pages.append(page)
        print()
    print("The notebooks with their output:", *pages, sep="\n  ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
