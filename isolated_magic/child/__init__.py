"""Everything that runs outside the notebook's process.

Standard library only, and nothing of the rest of the package: these files are run by path, with whatever
interpreter and environment a run asks for. ``start.py`` is the program; its first argument names the role.
"""
