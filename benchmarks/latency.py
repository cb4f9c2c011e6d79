"""Time runs against what a user would write instead.

Usage: ``python benchmarks/latency.py [--rounds N] [--quick] [--write FOLDER]``; ``make bench`` calls it. Prints
Markdown tables and whether the targets are met; with ``--write`` draws a picture of them too. The candidates of
one table take turns on the same machine: read the ratios, not the milliseconds.
"""

# The workers of the process pool import this file anew. Whatever it imports for itself would be in their memory.
if __name__ == "__main__":
    from suite import main

    main()
