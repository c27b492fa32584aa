"""A schema is counted with its references written out, without writing them out."""

import time
from typing import Any

import pytest

from rustic_ai.llm_queue.tasks.call import CompletionCall
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.policy.limits import PolicyViolation, check_limits
from rustic_ai.llm_queue.tasks.policy.schema_size import expanded_size
from rustic_ai.llm_queue.tasks.settings import QueueSettings

MOST = 50_000


def bomb(levels: int = 20) -> dict[str, Any]:
    """`$defs` a0 to an, each with two references to the next."""
    definitions: dict[str, Any] = {
        f"a{level}": {
            "type": "object",
            "properties": {side: {"$ref": f"#/$defs/a{level + 1}"} for side in ("l", "r")},
        }
        for level in range(levels)
    }
    return {"$ref": "#/$defs/a0", "$defs": {**definitions, f"a{levels}": {"type": "string"}}}


def a_tool(schema: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "parameters": schema}}


def a_call(**params: Any) -> CompletionCall:
    messages = [{"role": "user", "content": "hello"}]
    return CompletionCall(model="gemini/gemini-2.5-flash", params={"messages": messages, **params})


def test_a_schema_without_references_has_the_size_it_shows() -> None:
    assert expanded_size({"type": "object", "properties": {"a": {"type": "string"}}}, most=MOST) == 5


def test_each_reference_counts_what_it_stands_for() -> None:
    small = expanded_size(bomb(3), most=MOST)
    large = expanded_size(bomb(4), most=MOST)
    assert 1.8 < large / small < 2.5
    assert expanded_size(bomb(), most=MOST) == MOST + 1


def test_a_schema_that_refers_to_itself_is_counted_once() -> None:
    tree = {"$ref": "#/$defs/t", "$defs": {"t": {"properties": {"kids": {"items": {"$ref": "#/$defs/t"}}}}}}
    assert expanded_size(tree, most=MOST) < 20


def test_a_long_chain_takes_no_recursion() -> None:
    links: dict[str, Any] = {f"a{at}": {"$ref": f"#/$defs/a{at + 1}"} for at in range(20_000)}
    began_s = time.thread_time()
    assert expanded_size({"$ref": "#/$defs/a0", "$defs": {**links, "a20000": {}}}, most=MOST) > 20_000
    assert time.thread_time() - began_s < 10, "a minute, were it quadratic"


@pytest.mark.parametrize(
    "params",
    [
        {"tools": [a_tool(bomb())]},
        {"functions": [{"name": "f", "parameters": bomb()}]},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": bomb()}}},
        {"tools": [a_tool({"properties": {"deep": bomb()}})]},
        {"tools": [a_tool({"definitions": bomb()["$defs"], "$ref": "#/definitions/a0"})]},
    ],
)
def test_a_request_with_a_bomb_is_refused_by_its_rule(params: dict[str, Any]) -> None:
    # The same function is called where a request is submitted, and again by the worker.
    with pytest.raises(PolicyViolation, match=r"\$refs written out") as refused:
        check_limits(a_call(**params), QueueSettings())
    assert refused.value.kind is ErrorKind.LIMIT_EXCEEDED


def test_an_ordinary_schema_passes() -> None:
    check_limits(a_call(tools=[a_tool(bomb(5))] * 20), QueueSettings())
