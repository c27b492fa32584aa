"""LiteLLM on plain Celery as one writes it by hand: what this project is held against."""

import os

import litellm
from celery import Celery

litellm.suppress_debug_info = True

_URL = os.environ["BENCH_REDIS_URL"]
app = Celery("plain", broker=_URL, backend=_URL)


@app.task(name="bench.complete")
def complete(prompt: str) -> str:
    """One call, whole."""
    messages = [{"role": "user", "content": prompt}]
    response = litellm.completion(model="openai/gpt-4o-mini", messages=messages, max_retries=0)
    return str(response.choices[0].message.content)


@app.task(name="bench.nothing")
def nothing(prompt: str) -> str:
    """The floor: what Celery itself costs."""
    return prompt
