"""Hypothesis strategies for what may stand in a JSON document."""

from typing import Any

from hypothesis import strategies as st

#: Any JSON value, small; numbers that float and int cannot hold among them.
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**63, -(2**63), 10**400, 1e308, -0.0, 5e-324])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
OBJECT: st.SearchStrategy[dict[str, Any]] = st.dictionaries(st.text(max_size=8), JSON, max_size=4)


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every place in a JSON value, its root not among them."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for name, inner in items:
        found += [(*path, name), *paths(inner, (*path, name))]
    return found


def put(value: Any, path: tuple[Any, ...], new: Any) -> None:
    """Replace what stands at `path`."""
    for step in path[:-1]:
        value = value[step]
    value[path[-1]] = new
