"""The look of every figure and page, and its rendering: without a display, without pyplot's state, byte-stable.

Figures are drawn in `INK` on nothing. A file gets a white ground; `inline_svg` gives a page a figure that follows the
page's own colours, light or dark.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, ParamSpec, cast

if TYPE_CHECKING:
    from jinja2 import Template
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")

INK: Final = "#24292f"
GRID: Final = "#d0d7de"
PAPER: Final = "#ffffff"
BLUE: Final = "#1f83c4"
ORANGE: Final = "#d55e00"
GREY: Final = "#6e7781"

_STYLE: Final = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "figure.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "pocketaffect",
}


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draws with the house style: matplotlib reads most of it when a title, legend or colour bar is made."""

    @functools.wraps(draw)
    def draw_styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with _style():
            figure = draw(*args, **kwargs)
            if figure.get_layout_engine() is not None:
                # The layout moves labels at each of its first passes: settled here, every rendering is the same.
                for _ in range(2):
                    figure.draw_without_rendering()
                figure.set_layout_engine("none")
            return figure

    return draw_styled


def make_axes(
    rows: int,
    columns: int,
    size: tuple[float, float],
    *,
    margins: tuple[float, float, float, float] | None = None,
    gap: float = 0.0,
    share_y: bool = False,
) -> tuple[Figure, list[Axes]]:
    """Makes a figure of its own, apart from pyplot's global state, of `size` width and height in inches.

    The margins are inches left of, right of, above and below the axes, `gap` those between columns; without margins
    they are found, which draws everything twice.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained" if margins is None else None)
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=share_y)
    if margins is not None:
        (width, height), (left, right, above, below) = size, margins
        panel = (width - left - right - gap * (columns - 1)) / columns
        figure.subplots_adjust(left / width, below / height, 1 - right / width, 1 - above / height, gap / panel)
    return figure, list(axes.flat)


def render_svg(figure: Figure) -> str:
    """Renders a figure as SVG text on white, without date or software."""
    text = io.StringIO()
    metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with _style():
        figure.savefig(text, format="svg", metadata=metadata, dpi=150, facecolor=PAPER)
    return text.getvalue()


def render_png(figure: Figure, dpi: int = 144) -> bytes:
    """Renders a figure as PNG on white, without date or software."""
    data = io.BytesIO()
    with _style():
        figure.savefig(data, format="png", dpi=dpi, facecolor=PAPER, metadata={"Software": None})
    return data.getvalue()


def inline_svg(svg: str, prefix: str) -> str:
    """Fits an SVG into a page: in the page's colours and width, with ids that no other figure there has."""
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = svg.replace(GRID, "var(--line)").replace(PAPER, "var(--paper)")
    svg = re.sub(r'(\bid="|xlink:href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    head, body = svg[: svg.index(">")], svg[svg.index(">") :]
    return re.sub(r' (?:width|height)="[^"]*"', "", head) + body


def page_template(name: str, filters: Mapping[str, Any]) -> Template:
    """Loads a Jinja template of the package, such as `audit/audit.html.jinja`; `page.css` has the look of all pages."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("pocketaffect", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(filters)
    return environment.get_template(name)


def _style() -> AbstractContextManager[None]:
    from matplotlib import rc_context

    return rc_context(cast("Any", _STYLE))  # its stubs list every key as a literal
