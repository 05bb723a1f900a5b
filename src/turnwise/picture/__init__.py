"""What a picture of turns shows, before anything is drawn, and the same in words. Pure.

:mod:`turnwise.chart` draws it into files, and the page draws it for a browser.
"""

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
    "Gap",
    "Picture",
    "ShownRun",
    "ShownSlot",
    "alternative",
    "picture_of_history",
    "picture_of_plan",
    "summary",
    "window_of_interest",
]
