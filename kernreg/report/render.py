"""Fill the page: numbers as text, figures as inline SVG, nothing loaded from elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernreg import plotting
from kernreg.baseline.grid import GAUSSIAN
from kernreg.baseline.outcome import Fold, Outcome
from kernreg.baseline.results import code, comparison, environment, metric
from kernreg.baseline.scaling import IN_WORDS
from kernreg.baseline.search import Trial
from kernreg.baseline.uncertainty import LEVEL, Intervals, Probabilities, reliability
from kernreg.wording import significant

__all__ = ["render"]


def render(outcome: Outcome) -> str:
    """The report as the text of an HTML page.

    Parameters
    ----------
    outcome : Outcome
        A finished baseline.

    Returns
    -------
    str
        A page without scripts and without references to other files.

    Examples
    --------
    >>> from kernreg.baseline import Settings, run
    >>> from kernreg.datasets import load
    >>> settings = Settings(max_rows=12, scaling="standard", quick=True, competitors=False)
    >>> page = render(run(load("iris"), settings))
    >>> page[:15], "<script" in page
    ('<!DOCTYPE html>', False)
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("kernreg.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    templates.filters["score"] = lambda value: format_score(value, metric(outcome))
    templates.filters["duration"] = duration
    templates.filters["digits"] = significant
    templates.filters["number"] = lambda value: f"{value:,}"
    first = outcome.folds[0]
    return templates.get_template("report.html.j2").render(
        outcome=outcome,
        data=outcome.data,
        fold=first,
        best=first.winner,
        scaling=IN_WORDS[first.winner.candidate.scaling],
        metric=metric(outcome),
        rows=_with_ties(_with_bars(comparison(outcome)), metric(outcome)),
        finalists=_tied_finalists(first.rounds[-1], metric(outcome)),
        code=code(first),
        figures=_figures(outcome, first),
        environment=environment(),
        tried=sum(len(trials) for trials in first.rounds),
        ridges=len(first.winner.alphas),
    )


def format_score(value: float | None, name: str) -> str:
    """A score with the digits that matter.

    Examples
    --------
    >>> format_score(0.98765, "accuracy"), format_score(0.98765, "R2"), format_score(None, "R2")
    ('98.77 %', '0.9877', '–')
    """
    if value is None or not np.isfinite(value):
        return "–"
    return f"{100 * value:.2f} %" if name == "accuracy" else f"{value:.4f}"


def duration(seconds: float) -> str:
    """Seconds for people.

    Examples
    --------
    >>> duration(0.0123), duration(3.21), duration(95)
    ('12 ms', '3.2 s', '1 min 35 s')
    """
    # Rounded before the unit is chosen, so that nothing is "1000 ms" or "1 min 60 s".
    if round(1000 * seconds) < 1000:
        return f"{1000 * seconds:.0f} ms"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def _with_bars(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Bars show the error that is left, on a scale from none to the worst model but a constant."""
    errors = [max(1 - row["test"], 0.0) if np.isfinite(row["test"]) else 0.0 for row in rows]
    longest = max((e for e, r in zip(errors, rows, strict=True) if r["model"] != "constant"))
    shares = [error / longest if longest > 0 else 0.0 for error in errors]
    return [
        row | {"bar": round(100 * min(share, 1.0), 1), "cut": share > 1}
        for row, share in zip(rows, shares, strict=True)
    ]


def _with_ties(rows: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Mark the best test scores; what reads the same is a tie."""
    best = format_score(
        max((r["test"] for r in rows if np.isfinite(r["test"])), default=None), name
    )
    return [row | {"best": format_score(row["test"], name) == best} for row in rows]


def _tied_finalists(trials: list[Trial], name: str) -> list[tuple[Trial, bool]]:
    """Finalists, and whether their scores read as that of the first."""
    first = format_score(trials[0].score, name)
    return [(trial, format_score(trial.score, name) == first) for trial in trials]


def _figures(outcome: Outcome, fold: Fold) -> list[dict[str, str]]:
    name, data = metric(outcome), outcome.data
    best, finalists = fold.winner, fold.rounds[-1]
    curves = {_label(t): 1 - t.scores for t in [*finalists[:5], fold.radial[GAUSSIAN][-1][0]]}
    if data.classes is None:
        last = plotting.plot_predictions(fold.truth, fold.predicted, data.target_name)
        last_text = f"Predicted against true {data.target_name} of the test rows."
    else:
        last = plotting.plot_confusion(fold.truth, fold.predicted, list(data.classes))
        last_text = "True against predicted class of the test rows."
    error = "error rate" if name == "accuracy" else "1 - R2"
    entries = [
        (
            "Score per network",
            plotting.plot_depths(
                depths(fold.rounds[0]),
                f"leave-one-out {name}",
                fold.radial[GAUSSIAN][0][0].score,
            ),
            f"Best leave-one-out {name} at each depth on {fold.rounds[0][0].rows:,} training rows, "
            "the first round of the search.",
        ),
        (
            "Leave-one-out error against the ridge",
            plotting.plot_ridge_path(best.alphas, curves, f"leave-one-out {error}", best.alpha),
            f"The finalists on {best.rows:,} training rows; the dotted line is the chosen ridge.",
        ),
        (
            "Spectrum of the kernel matrix",
            plotting.plot_spectrum(best.spectrum, best.alpha),
            f"Eigenvalues of the chosen kernel on {best.rows:,} training rows. The fit keeps the "
            "directions above the ridge.",
        ),
        ("Predictions", last, last_text),
        *_columns(fold),
        *_calibration(fold.uncertainty),
    ]
    return [
        {"title": title, "svg": plotting.to_svg(figure, title), "text": text}
        for title, figure, text in entries
    ]


def _columns(fold: Fold) -> list[tuple[str, Any, str]]:
    """A figure of the columns that predictions depend on."""
    if len(fold.importances) < 2:
        return []
    scaled = fold.winner.candidate.scaling == "learned"
    text = (
        "Mean squared slope of the predictions along each column, times its variance; indicators "
        "of one column are summed. "
    ) + ("A scale was learned for each column." if scaled else "No scales of columns were learned.")
    return [("Which columns matter", plotting.plot_importances(fold.importances), text)]


def _calibration(found: Intervals | Probabilities | None) -> list[tuple[str, Any, str]]:
    """A figure of how sure the network is of the test rows, and how right."""
    if isinstance(found, Intervals):
        levels, shares = list(found.shares), list(found.shares.values())
        counts = [len(found.lower)] * len(levels)
        text = (
            f"Intervals of {LEVEL:.0%} cover {found.covered:.1%} of the test rows; their mean "
            f"width is {significant(found.width)}. They are learned from leave-one-out residuals."
        )
    elif isinstance(found, Probabilities):
        levels, shares, counts = reliability(found.values.max(axis=1), found.right)
        text = (
            f"Log-loss {found.log_loss:.3f}, expected calibration error "
            f"{found.calibration_error:.3f} on the test rows. Probabilities are learned from "
            "leave-one-out decision values."
        )
    else:
        return []
    figure = plotting.plot_calibration(
        levels, shares, counts, intervals=isinstance(found, Intervals)
    )
    return [("Calibration", figure, text)]


def depths(trials: list[Trial]) -> dict[tuple[str, str], dict[int, float]]:
    """Best score of each nonlinearity and kernel at each depth."""
    result: dict[tuple[str, str], dict[int, float]] = {}
    for trial in sorted(trials, key=lambda t: (t.candidate.family, t.kernel, t.candidate.depth)):
        points = result.setdefault((trial.candidate.family, trial.kernel), {})
        depth = trial.candidate.depth
        points[depth] = max(points.get(depth, -np.inf), trial.score)
    return result


def _label(trial: Trial) -> str:
    c = trial.candidate
    if c.network is None:
        return f"Gaussian kernel, gamma {c.gamma:g}/d"
    rows = ", unit rows" if c.unit_rows else ""
    return f"{c.family} {trial.kernel}, depth {c.depth}, W {c.W_std:g}, b {c.b_std:g}{rows}"
