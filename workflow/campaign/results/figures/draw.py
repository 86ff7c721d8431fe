"""Draws a figure by its name: the function is named in the catalogue and imported when it is called."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module

from matplotlib.figure import Figure

from campaign.results.figures.catalogue import FIGURES, FigureSpec
from campaign.results.figures.context import Context
from campaign.results.figures.select import Tables


def draw_figure(name: str, tables: Tables, context: Context) -> Figure:
    """The figure called `name`, from its tables. Raises NothingToDrawError where no cell has a value to draw."""
    return drawing(FIGURES[name])(tables, context)


def drawing(spec: FigureSpec) -> Callable[[Tables, Context], Figure]:
    """The function that the catalogue names, with the keyword arguments that it gives. Imports its module."""
    return partial(getattr(import_module(spec.module), spec.function), **spec.arguments)
