from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from rustic_ai.core.guild.agent_ext.depends.llm.models import (
    ChatCompletionRequest,
    SystemMessage,
    UserMessage,
)

from failure import DemoFailed
from rustic_ai.llm_queue.resolver import QueueChatCompletionResponse, QueueLLM
from screen import Screen
from stage import PRIMARY, SPARE, Stage
from study import Exchange, Study

#: Characters after which the second reader joins.
_HALF_WAY = 200


def play(screen: Screen, stage: Stage, study: Study) -> None:
    """All scenes in turn. Raises `DemoFailed`."""
    began = time.monotonic()
    answers = [*_two_agents(screen, study), _stream(screen, study)]
    if stage.models:
        answers.append(_fallback(screen, stage, study))
    else:
        screen.note("\nThe fallback is left out: it would take another provider's endpoint down.")
    screen.total(answers, time.monotonic() - began)


def _two_agents(screen: Screen, study: Study) -> list[QueueChatCompletionResponse]:
    screen.scene("Two agents ask at the same time")
    questions = {
        "Geographer": ["What is the capital of Japan?", "What is the Moon?"],
        "Naturalist": ["Why do birds sing?", "What is ice?"],
    }
    return [_shown(screen, exchange) for exchange in study.ask(questions)]


def _stream(screen: Screen, study: Study) -> QueueChatCompletionResponse:
    screen.scene("An answer as it is written, and a second reader who joins half-way")
    question = "How is bread made?"
    screen.question("Visitor", question)
    typewriter, read_along, joined_at = screen.typewriter(), None, 0
    with ThreadPoolExecutor(1) as pool, study.llm().stream(_in_three_sentences(question)) as stream:
        for chunk in stream:
            typewriter.type(chunk.text)
            if read_along is None and len(stream.text) >= _HALF_WAY:
                joined_at = len(stream.text)
                read_along = pool.submit(_read_along, study.llm(), stream.job_id)
        typewriter.end_line()
        # An answer too short to join half-way is replayed.
        text_of_second = read_along.result() if read_along else _read_along(study.llm(), stream.job_id)
    screen.account(stream.response)
    if text_of_second != stream.text:
        raise DemoFailed(f"the second reader has another text: {text_of_second!r}")
    joined = f"joined after {joined_at}" if joined_at else "came after all"
    screen.indented(f"the second reader {joined} of {len(stream.text)} characters: the same text", "green")
    return stream.response


def _read_along(llm: QueueLLM, job_id: str) -> str:
    with llm.job(job_id).stream() as stream:
        for _ in stream:
            pass
        return stream.text


def _in_three_sentences(question: str) -> ChatCompletionRequest:
    manner = SystemMessage(content="Answer in three sentences.")
    return ChatCompletionRequest(messages=[manner, UserMessage(content=question)])


def _fallback(screen: Screen, stage: Stage, study: Study) -> QueueChatCompletionResponse:
    screen.scene(f"The server of {PRIMARY} dies, and {SPARE} answers")
    screen.indented(f"killed pid {stage.kill_primary()}", "red")
    (exchange,) = study.ask({"Geographer": ["What is water made of?"]})
    models = [attempt.model for attempt in exchange.answer.attempts]
    if models[-1:] != [SPARE] or PRIMARY not in models:
        raise DemoFailed(f"the attempts were at {', '.join(models) or 'no model'}, without a fallback")
    return _shown(screen, exchange)


def _shown(screen: Screen, exchange: Exchange) -> QueueChatCompletionResponse:
    screen.exchange(exchange.agent, exchange.question, exchange.answer)
    return exchange.answer
