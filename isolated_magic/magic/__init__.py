"""The magics; the only part of the package that imports IPython."""
