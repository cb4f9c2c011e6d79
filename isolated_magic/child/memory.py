"""The memory that a template shares with its forks, and what makes sharing it cheap."""

from __future__ import annotations

import ctypes
import mmap
import os

MADV_POPULATE_WRITE, MADV_COLLAPSE = 23, 25  # linux/mman.h, since Linux 5.14 and 6.1
PAGE = mmap.PAGESIZE
HUGE_PAGE = 1 << 21
ENTRY_BYTES = 8  # of /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst)
LARGEST_MEMORY = 4 << 30  # addresses, most of them of nothing: there are eight bytes to read for each page
EXCLUSIVELY_MAPPED = 1 << 56
MOST_PAGES = 4000  # a run that writes to more than that does not tell what the next one will write to

_madvise = ctypes.PyDLL(None).madvise
_madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def use_huge_pages() -> None:
    """Have the kernel put what was allocated so far into huge pages.

    A fork copies one entry for each page of its parent, and gives each one back when it ends: with Opik imported,
    that is much of what a run costs. What a fork writes to is split up again, and copied in small pages as before.
    Where the kernel refuses, nothing changes.
    """
    for start, end, is_of_file in _writable_memory():
        first = (start + HUGE_PAGE - 1) // HUGE_PAGE * HUGE_PAGE
        for address in range(first, end - HUGE_PAGE + 1, HUGE_PAGE):
            if not is_of_file:
                _madvise(address, HUGE_PAGE, MADV_COLLAPSE)


def own_pages() -> list[int]:
    """In a fork: the numbers of the pages that it has written to, and no longer shares with the template."""
    found: list[int] = []
    spans = _writable_memory()
    if sum(end - start for start, end, _ in spans) > LARGEST_MEMORY:
        return found
    descriptor = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        for start, end, _ in spans:
            first = start // PAGE
            entries = os.pread(descriptor, (end - start) // PAGE * ENTRY_BYTES, first * ENTRY_BYTES)
            view = memoryview(entries).cast("Q")
            found += [first + index for index, entry in enumerate(view) if entry & EXCLUSIVELY_MAPPED]
    finally:
        os.close(descriptor)
    return found[:MOST_PAGES]


def copy_ahead(pages: list[int]) -> None:
    """In a fork that waits: have copies now of what most runs write to, while nobody waits for them.

    Args:
        pages: their numbers, ascending, as earlier forks of the same template found them.
    """
    begin = 0
    for index in range(1, len(pages) + 1):
        if index == len(pages) or pages[index] != pages[index - 1] + 1:
            _madvise(pages[begin] * PAGE, (index - begin) * PAGE, MADV_POPULATE_WRITE)
            begin = index


def _writable_memory() -> list[tuple[int, int, bool]]:
    """From where to where it lies, and whether it belongs to a file (proc(5), /proc/PID/maps)."""
    found = []
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:  # noqa: PTH123 - a special file
        for line in maps:
            span, mode, _, _, inode, *_ = line.split()
            if mode == "rw-p":
                start, end = span.split("-")
                found.append((int(start, 16), int(end, 16), inode != "0"))
    return found
