"""Summaries of many documents at once: `python examples/fan_out.py --output summaries.jsonl [FOLDER]`.

Without a folder of text files it makes up 100 documents. A run that was stopped goes on with the same
command: what has been answered is not asked, and not paid, again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from rustic_ai.core.guild.agent_ext.depends.llm.models import (
    ChatCompletionRequest,
    SystemMessage,
    UserMessage,
)

from rustic_ai.llm_queue.resolver import ProgressBar, QueueLLM, QueueLLMResolver

_FAILED, _INTERRUPTED = 1, 130


def main() -> int:
    """Returns the exit code: 0 when all was answered, 1 when a document failed, 130 on Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--output", type=Path, default=Path("summaries.jsonl"))
    parser.add_argument("--model", default="openai/gpt-4o-mini")
    parser.add_argument("--max-in-flight", type=int, default=20)
    options = parser.parse_args()
    documents = _documents(options.folder)
    llm = QueueLLMResolver(model=options.model, max_tokens=100).resolve("examples", "fan-out", "reader")
    try:
        failed, cost_usd = summarise(llm, documents, options.output, options.max_in_flight)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return _INTERRUPTED
    print(f"{len(documents) - failed} answered, {failed} failed, {cost_usd:.6f} USD")
    return _FAILED if failed else 0


def summarise(
    llm: QueueLLM, documents: Mapping[str, str], output: Path, max_in_flight: int
) -> tuple[int, float]:
    """Write a line of JSON for each document. Returns how many failed, and what the others cost in USD."""
    manner = SystemMessage(content="Summarise the document in one sentence.")
    requests = [
        ChatCompletionRequest(messages=[manner, UserMessage(content=text)]) for text in documents.values()
    ]

    def key(_: int, request: ChatCompletionRequest) -> str:
        asked = f"{llm.model}\n{request.model_dump_json(exclude_unset=True)}"
        return hashlib.sha256(asked.encode()).hexdigest()

    failed, cost_usd = 0, 0.0
    with ProgressBar("documents") as bar, output.open("w", encoding="utf-8") as lines:
        items = llm.batch(requests, max_in_flight=max_in_flight, idempotency_key=key, on_progress=bar)
        with closing(items):
            for name, item in zip(documents, items, strict=True):
                if item.response is None:
                    failed += 1
                    print(f"{name}: {item.error}", file=sys.stderr)
                    continue
                cost_usd += item.response.cost_usd or 0.0
                summary = item.response.choices[0].message.content
                lines.write(json.dumps({"document": name, "summary": summary}, ensure_ascii=False) + "\n")
    return failed, cost_usd


def _documents(folder: Path | None) -> dict[str, str]:
    if folder is None:
        return {f"document-{n:03}": f"Report {n}: shelf {n} holds {n * 7} books." for n in range(1, 101)}
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.txt"))}


if __name__ == "__main__":
    sys.exit(main())
