"""How Sphinx makes a site of the manual: `make site`."""

from isolated_magic import __version__

project = "isolated_magic"
author = "The isolated_magic developers"
release = version = __version__

extensions = ["myst_nb"]
exclude_patterns = ["site", "metrics", "**.ipynb_checkpoints"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4

# The outputs are those that are saved: nbval has checked them, and the site shows what GitHub shows.
nb_execution_mode = "off"
nb_merge_streams = True
nb_render_error_lexer = "myst-ansi"  # errors are sentences with colours, no tracebacks of IPython's

html_theme = "furo"
html_title = "isolated_magic"
html_static_path = ["static"]
html_css_files = ["manual.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {"sidebar_hide_name": False}
