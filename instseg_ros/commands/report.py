"""``instseg report``: results as one HTML page."""

from __future__ import annotations

import argparse

from ..cli import add_common_arguments

HELP = """Make one self-contained HTML page, and its figures as PNG, from results of `instseg evaluate` or `instseg replay`.

Table against the baselines with the best in bold, precision and recall, recall by occlusion, count, centroid error, latency,
and the contact sheets of --pictures."""
EXAMPLE = "instseg report result.json other.json --out report"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("results", nargs="+", metavar="RESULT.json", help="what evaluate or replay wrote with --json")
    parser.add_argument("--out", metavar="DIR", default="report", help="folder for report.html and the PNGs (default report)")
    parser.add_argument("--title", default="Instance segmentation: evaluation", help="heading of the page")
    add_common_arguments(parser)


def run(args: argparse.Namespace) -> dict:
    """Write the page and say where it is."""
    from ..evaluation.report import load_results, write_report

    results = load_results(args.results)
    page, *figures = write_report(results, args.out, args.title)
    print(f"{page}: {len(results)} methods, {len(figures)} figures")
    return {"page": str(page), "figures": [str(path) for path in figures], "methods": list(results)}
