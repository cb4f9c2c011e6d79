# Written by %%isolated --save, and again each time the cell runs; checksum ce06e77a8e0a.
# /// script
# requires-python = ">=3.11"
# dependencies = ["wordmatch>=2"]
# ///
import importlib.util

import wordmatch


def overlap(answer: str, reference: str) -> float:
    """The share of the reference's words that the answer has."""
    return wordmatch.overlap(answer, reference)


print("IPython is", "there." if importlib.util.find_spec("IPython") else "not there.")
overlap
