# Written by %%isolated --save, and again each time the cell runs; checksum 429d53177f4c.
# /// script
# requires-python = ">=3.11"
# dependencies = ["wordmatch>=2"]
# ///
import importlib.util

import wordmatch

has_notebook = importlib.util.find_spec("IPython") is not None
{"overlap": wordmatch.overlap(data["answer"], data["reference"]), "has IPython": has_notebook}
