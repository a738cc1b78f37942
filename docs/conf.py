"""How Sphinx makes the site of these pages: ``make docs``.

The pages are plain Markdown, which a code host shows as well. What the site adds is in ``site/``: tables of benchmarks,
which lie outside of this folder, become pages (`beside`), commands and configuration keys come from the code
(`options`, `keys`), terms lead to the glossary (`terms`), and links are followed (`links`). Examples of ``gallery/``
are run.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["TQDM_DISABLE"] = "1"  # no progress bars in what examples print

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "site")]

from sphinx.util.inspect import TypeAliasForwardRef  # noqa: E402

from finescale.version import __version__ as release  # noqa: E402

# Within another type an alias is shown by its repr.
TypeAliasForwardRef.__repr__ = lambda self: self.name  # type: ignore[method-assign]

project = "finescale"
author = "the finescale developers"
copyright = author
version = release

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
    "sphinx_design",
    "beside",
    "keys",
    "links",
    "options",
    "terms",
]
root_doc = "index"
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["gallery", "**/GALLERY_HEADER.*", "sg_execution_times.rst", "auto_examples/sg_execution_times.rst"]
nitpicky = True
default_role = "code"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
# A formula such as `c_k(x + (k − τ) v(x))` in a block without a language is text.
highlight_language = "none"

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
autodoc_type_aliases = {"ArrayLike": "ArrayLike"}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_preprocess_types = False
add_module_names = False
# No network is needed: types of other libraries are named, not linked. Nor are those that a user never makes.
INTERNAL = (
    "diffusion.carried.Carried|diffusion.denoiser.Denoiser|latents.base.LatentSpace|model.generator.Generator|"
    "model.mean.MeanModel|model.process.Process|operators.coarsen.Coarsen|scores.bootstrap.Added|"
    "scores.record.Statistic|transforms.base.Transform"
)
nitpick_ignore_regex = [("py:.*", r"(?!finescale\b).*"), ("py:.*", rf"finescale\.({INTERNAL})")]

sphinx_gallery_conf = {
    "examples_dirs": str(HERE / "gallery"),
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"\.py$",
    "ignore_pattern": r"__init__\.py|conf\.py",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 1e9,
    "abort_on_example_error": False,
    "image_scrapers": ("displayed",),
    "capture_repr": ("_repr_html_",),
}

html_theme = "pydata_sphinx_theme"
html_title = "finescale"
html_static_path = ["site/static"]
html_css_files = ["site.css"]
html_copy_source = False
html_domain_indices = False
html_use_index = False
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 10,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}
html_sidebars = {page: [] for page in ("index", "start", "decisions", "questions", "about")}
