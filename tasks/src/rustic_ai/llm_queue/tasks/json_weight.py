from __future__ import annotations


def weighs_more(value: object, limit: int) -> bool:
    """Whether JSON has more than `limit` characters and values; it is looked at no further than that."""
    rest, weight = [value], 0
    while rest and weight <= limit:
        match one := rest.pop():
            case str():
                weight += len(one)
            case dict():
                rest += one.values()
                weight += len(one)
            case list() | tuple():
                # Lists of numbers, as vectors are, need not be walked through.
                weight += len(one)
                rest += one if weight <= limit else ()
    return weight > limit
