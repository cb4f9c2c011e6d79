"""Wheels of a small library in two versions: with them `packages_per_cell.ipynb` needs no package index."""

from __future__ import annotations

import zipfile
from pathlib import Path

SAME = '''
def overlap(answer: str, reference: str) -> float:
    """The share of the reference's words that the answer has."""
    found, wanted = words(answer), words(reference)
    return len(found & wanted) / len(wanted)
'''
VERSIONS = {
    "1.0": '''
def words(text: str) -> set[str]:
    """Its words, as they stand there."""
    return set(text.split())
''',
    "2.0": '''
def words(text: str) -> set[str]:
    """Its words, whatever their case and punctuation."""
    return {word.strip(".,:;!?").casefold() for word in text.split()}
''',
}


def make_wheels(folder: str) -> str:
    """Make `wordmatch` 1.0 and 2.0 there, as a build tool would; returns the folder."""
    for version, words in VERSIONS.items():
        info = f"wordmatch-{version}.dist-info"
        files = {
            "wordmatch.py": f'"""How much of one text is in another."""\n\n{words}\n{SAME}',
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: wordmatch\nVersion: {version}\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: us\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
        with zipfile.ZipFile(Path(folder, f"wordmatch-{version}-py3-none-any.whl"), "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
    return folder
