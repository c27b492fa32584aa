"""A process that waits for answers, to be killed."""

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

WAITING_PROCESS = """
    import sys, threading
    from rustic_ai.core.guild.agent_ext.depends.llm.models import ChatCompletionRequest, UserMessage
    from rustic_ai.llm_queue.resolver import QueueLLMResolver

    llm = QueueLLMResolver("openai/gpt-4o-mini", redis_url=sys.argv[1]).resolve("acme", "support", "helper")
    ask = ChatCompletionRequest(messages=[UserMessage(content=sys.argv[2])])
    print("submitted", llm.submit(ask).id, flush=True)
    for name, detach in (("detached", True), ("streamed", False), ("detached", False)):
        stream = llm.stream(ask, detach=detach).__enter__()
        print(name, stream.job_id, flush=True)
    stream.detach()
    threading.Thread(target=llm.completion, args=(ask,)).start()
    print("ready", "-", flush=True)
"""


@contextmanager
def waiting_process(
    url: str, question: str = "?"
) -> Iterator[tuple[subprocess.Popen[str], dict[str, list[str]]]]:
    """The process, and the ids of its jobs: `submitted`, two `detached` streams, and one `streamed`.

    It waits for that stream, and for a call that makes a fifth job.
    """
    command = [sys.executable, "-c", textwrap.dedent(WAITING_PROCESS), url, question]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    jobs: dict[str, list[str]] = {}
    try:
        assert process.stdout is not None
        for line in process.stdout:
            name, job_id = line.split()
            if name == "ready":
                break
            jobs.setdefault(name, []).append(job_id)
        yield process, jobs
    finally:
        process.kill()
        process.wait()
