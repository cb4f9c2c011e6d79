"""The data of a run, on its way from notebook values to JSON."""
