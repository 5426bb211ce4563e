"""Reads PromQL as Prometheus would, and holds it against what the server has registered."""

import re
from collections.abc import Iterator
from typing import Any

import promql_parser

from server.observability.reference import registered

GIVEN_BY_PROMETHEUS = {"namespace", "job", "instance", "le"}
"""Labels that a scrape adds, and a histogram's bounds."""

_VARIABLES = {"$__rate_interval": "1m", "$namespace": ".*", "$job": ".*", "$instance": ".*"}


def fill(expr: str) -> str:
    """``expr`` with the dashboard's variables as Grafana would put them in, on "All"."""
    for name, value in _VARIABLES.items():
        expr = expr.replace(name, value)
    return expr


def registered_series() -> dict[str, dict[str, set[str]]]:
    """Sample name → label → its values, of a server that has just started."""
    series: dict[str, dict[str, set[str]]] = {}
    for family in registered():
        for sample in family.samples:
            labels = series.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return series


def complaints(expr: str, series: dict[str, dict[str, set[str]]]) -> Iterator[str]:
    """What is wrong with a query: series that don't exist, labels that they don't have, values that never come."""
    tree = promql_parser.parse(expr)
    known: set[str] = set(GIVEN_BY_PROMETHEUS)
    for selector in _nodes(tree, promql_parser.VectorSelector):
        if selector.name == "up":  # Prometheus' own, of every target
            continue
        if selector.name not in series:
            yield f"no series is named {selector.name}"
            continue
        known |= series[selector.name].keys()
        for matcher in selector.matchers.matchers:
            yield from _matcher_complaints(selector.name, matcher, series[selector.name])
    for aggregation in _nodes(tree, promql_parser.AggregateExpr):
        if aggregation.modifier is not None:
            yield from (f"nothing here has a label {label}" for label in aggregation.modifier.labels if label not in known)


def _matcher_complaints(name: str, matcher: Any, labels: dict[str, set[str]]) -> Iterator[str]:
    if matcher.name not in labels:
        if matcher.name not in GIVEN_BY_PROMETHEUS:
            yield f"{name} has no label {matcher.name}"
        return
    is_pattern = matcher.op in (promql_parser.MatchOp.Re, promql_parser.MatchOp.NotRe)
    for wanted in matcher.value.split("|") if is_pattern else [matcher.value]:
        if not any(re.fullmatch(wanted, value) for value in labels[matcher.name]):
            yield f"{name} never has {matcher.name}={wanted}"


def _nodes(node: Any, kind: type) -> Iterator[Any]:
    if isinstance(node, kind):
        yield node
    for attribute in ("lhs", "rhs", "expr", "param", "args", "vector_selector"):
        child = getattr(node, attribute, None)
        for each in child if isinstance(child, list) else [child]:
            if each is not None and not isinstance(each, str | float):
                yield from _nodes(each, kind)
