"""Pictures of turns: one lane per runner, from what a storage has kept, a plan or a simulation.

What it does not show
---------------------
A storage keeps executions, and not who counted in a past cycle: a slot has an owner in the
picture only where its runner left a row in it. What retention has forgotten is not there. Slots
and due instants are drawn by one schedule and one margin: those that hold now.

What it does
------------
:func:`picture_of_history` and :func:`picture_of_plan` say what there is to be seen, as a
:class:`Picture`; :func:`save` writes it as SVG, PNG, PDF, HTML or text.

Needs the extra ``chart``.
"""

from turnwise.errors import MissingExtraError

try:
    import matplotlib as _matplotlib  # noqa: F401, ICN001 (so that one line says what is missing)
except ImportError as error:
    raise MissingExtraError(
        "turnwise.chart needs the extra 'chart': pip install 'turnwise[chart]'"
    ) from error

from turnwise.chart.files import SUFFIXES, rendered, save
from turnwise.picture.made import (
    Gap,
    Picture,
    ShownRun,
    ShownSlot,
    picture_of_history,
    picture_of_plan,
    window_of_interest,
)
from turnwise.picture.text import alternative, summary

__all__ = [
    "SUFFIXES",
    "Gap",
    "Picture",
    "ShownRun",
    "ShownSlot",
    "alternative",
    "picture_of_history",
    "picture_of_plan",
    "rendered",
    "save",
    "summary",
    "window_of_interest",
]
