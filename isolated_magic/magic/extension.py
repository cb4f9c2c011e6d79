"""What ``%load_ext isolated_magic`` does to a shell, and ``%unload_ext`` undoes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isolated_magic.executors import lifecycle
from isolated_magic.magic.magics import IsolatedMagics
from isolated_magic.magic.settings import settings_of

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


def load(shell: InteractiveShell) -> None:
    """Register the magics, once, and have the kernel's end tear down what they started.

    Args:
        shell: an IPython shell.

    Raises:
        SettingError: a setting in the profile or in ``pyproject.toml`` cannot be.
    """
    if _registered(shell) is not None:
        return
    magics = IsolatedMagics(shell, settings_of(shell))
    shell.register_magics(magics)
    shell.configurables.append(magics.settings)  # type: ignore[arg-type]  # its list is typed as of shells
    magics.display.register()
    magics.cells.register()
    magics.completion.register()
    lifecycle.handle_termination()


def unload(shell: InteractiveShell) -> None:
    """Take the magics away and stop what they started.

    Args:
        shell: the shell they were registered with.
    """
    magics = _registered(shell)
    if magics is None:
        return
    magics.executors.teardown()
    lifecycle.leave_termination()
    magics.completion.unregister()
    magics.cells.unregister()
    magics.display.unregister()
    # IPython puts the magics there by itself, and has no way to take them out.
    ours = {id(magics), id(magics.settings)}
    shell.configurables[:] = [one for one in shell.configurables if id(one) not in ours]
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("isolated", None)
    shell.magics_manager.registry.pop(IsolatedMagics.__name__, None)


def _registered(shell: InteractiveShell) -> IsolatedMagics | None:
    magics = shell.magics_manager.registry.get(IsolatedMagics.__name__)
    return magics if isinstance(magics, IsolatedMagics) else None
