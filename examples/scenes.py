from __future__ import annotations

import threading
import time
from queue import Empty, SimpleQueue

from rustic_ai.core.ui_protocol.types import UpdateType

from failure import DemoFailed
from rustic_ai.llm_queue.resolver import QueueChatCompletionResponse, QueueError, QueueLLM
from screen import Screen
from stage import PRIMARY, SPARE, Stage
from study import Exchange, Study

#: Characters after which the second reader joins.
_HALF_WAY = 200
_SECOND_READER_S = 30.0


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
    screen.scene("An answer as its words come, and a second reader who joins half-way")
    question = "How is bread made?"
    screen.question("Writer", question)
    typewriter, text, joined_at = screen.typewriter(), "", 0
    read: SimpleQueue[str | QueueError] = SimpleQueue()
    for heard in study.watch(question):
        if isinstance(heard, Exchange):
            break
        if heard.update_type is UpdateType.REPLACE:
            text = ""
            typewriter.end_line()
        text += heard.text
        typewriter.type(heard.text)
        if not joined_at and len(text) >= _HALF_WAY and heard.update_id:
            joined_at = len(text)
            reader = (study.llm_of("Writer"), heard.update_id, read)
            threading.Thread(target=_read_along, args=reader, daemon=True).start()
    typewriter.end_line()
    assert isinstance(heard, Exchange)
    if not joined_at:
        # An answer too short to join half-way is replayed.
        _read_along(study.llm_of("Writer"), str(heard.answer.job_id), read)
    screen.account(heard.answer)
    if (other := _text_of_second(read)) != text:
        raise DemoFailed(f"the second reader ended with another text: {other!r}")
    joined = f"joined after {joined_at}" if joined_at else "came after all"
    screen.indented(f"the second reader {joined} of {len(text)} characters: the same text", "green")
    return heard.answer


def _text_of_second(read: SimpleQueue[str | QueueError]) -> str:
    try:
        text = read.get(timeout=_SECOND_READER_S)
    except Empty:
        raise DemoFailed(f"the second reader has not ended after {_SECOND_READER_S:g} s") from None
    if isinstance(text, QueueError):
        raise DemoFailed(f"the second reader failed: {text}")
    # Rustic's messages lose the white space at their ends, and so does what the updates add up to.
    return text.strip()


def _read_along(llm: QueueLLM, job_id: str, read: SimpleQueue[str | QueueError]) -> None:
    """What another process does that knows the job's id."""
    try:
        with llm.job(job_id).stream() as stream:
            for _ in stream:
                pass
            read.put(stream.text)
    except QueueError as error:
        read.put(error)


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
