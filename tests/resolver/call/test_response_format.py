"""A request's `response_format`, in all the forms that it comes in."""

from typing import Any

import pytest
from pydantic import BaseModel

from rustic_ai.llm_queue.resolver.call import response_format


def format_of(given: Any) -> dict[str, Any]:
    made = response_format.response_format_json(given)
    assert made is not None
    return made


class Place(BaseModel):
    city: str
    country: str | None = None


class Outer:
    class Inner(BaseModel):
        places: list[Place]


STRICT = {
    "title": "A place",
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


def test_a_json_schema_is_wrapped_once_and_left_as_it_is() -> None:
    wrapped = format_of(STRICT)
    assert wrapped == {
        "type": "json_schema",
        "json_schema": {"name": "A_place", "schema": STRICT, "strict": True},
    }
    assert format_of(wrapped) == wrapped


@pytest.mark.parametrize("given", [{"type": "json_object"}, {"type": "text"}])
def test_what_the_api_takes_passes(given: dict[str, Any]) -> None:
    assert format_of(given) == given


def test_a_schema_that_strict_mode_would_refuse_is_not_called_strict() -> None:
    loose = {"type": "object", "properties": {"a": {"type": "string"}}}
    assert format_of(loose)["json_schema"] == {
        "name": "response",
        "schema": loose,
        "strict": False,
    }


def test_a_pydantic_class_is_found_by_its_name_nested_ones_too() -> None:
    wrapped = format_of(f"{__name__}.Outer.Inner")["json_schema"]
    assert (wrapped["name"], wrapped["strict"]) == ("Inner", True)
    place = wrapped["schema"]["$defs"]["Place"]
    assert place["additionalProperties"] is False
    assert place["required"] == ["city", "country"]
    assert "additionalProperties" not in Outer.Inner.model_json_schema()


@pytest.mark.parametrize("name", ["no.such.Class", "Unqualified", "json.JSONDecoder", "json.loads", ""])
def test_an_unknown_class_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="response_format") as caught:
        format_of(name)
    assert name in str(caught.value)
