"""The resolver's defaults must not make a model refuse the call."""

from typing import Any

import pytest

from rustic_ai.llm_queue.worker.provider.parameters import fitting_parameters

DEFAULTS: dict[str, Any] = {"messages": [], "temperature": 0.7, "top_p": 1.0, "presence_penalty": 0.0}


@pytest.mark.parametrize(
    "model",
    [
        "anthropic/claude-sonnet-4-5",
        "claude-opus-4-1",
        "bedrock/eu.anthropic.claude-haiku-4-5-20251001-v1:0",
        "vertex_ai/Claude-sonnet-4-5",
    ],
)
def test_claude_gets_no_top_p_that_changes_nothing(model: str) -> None:
    assert fitting_parameters(DEFAULTS, model) == {
        "messages": [],
        "temperature": 0.7,
        "presence_penalty": 0.0,
    }
    assert DEFAULTS["top_p"] == 1.0


def test_a_top_p_of_the_callers_own_stays() -> None:
    own = {**DEFAULTS, "top_p": 0.9}
    assert fitting_parameters(own, "claude-sonnet-4-5") == own
    alone = {"messages": [], "top_p": 1.0}
    assert fitting_parameters(alone, "claude-sonnet-4-5") == alone


def test_other_models_get_what_was_asked() -> None:
    assert fitting_parameters(DEFAULTS, "openai/gpt-4o") == DEFAULTS
