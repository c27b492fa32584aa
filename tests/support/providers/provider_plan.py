"""What a simulated provider answers: the script of one conversation, as sent to the simulator."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Fault = Literal[
    "refuse", "abort", "cut", "reset", "no_finish", "no_reason", "bad_json", "stall", "error_event"
]
VectorFault = Literal["shuffled", "one_short", "one_twice", "uneven", "other_length", "not_finite"]


class ToolCall(BaseModel):
    """A call of a tool by the model; ``arguments`` is JSON text, or text that is no JSON on purpose."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    arguments: str = "{}"
    id: str | None = None


class Step(BaseModel):
    """One answer of the provider, or one way to fail. The default is a healthy answer at once.

    Said: ``text`` (None: `derived_answer` of the prompt, ``words`` long), ``tool_calls``,
    ``reasoning``, ``refusal``, ``finish_reason`` (OpenAI's words; other formats translate it), and
    token counts (None: made up from the lengths).

    Pace: ``delay_s`` before anything is sent, ``hold`` until `ProviderStub.release`,
    ``first_token_delay_s`` between the headers and the first chunk, ``chunk_delay_s`` between chunks,
    ``chunk_chars`` characters a chunk (None: a word a chunk).

    Failures: ``status`` 400 and above sends an error in the provider's own form and, without a
    ``message``, in its own words; with ``retry_after_s``, and a ``code``: of its own, or
    ``context_length_exceeded`` or ``content_filter`` (status 400) in the words of each provider.
    ``fault`` breaks the answer, streams after
    ``after_chunks`` chunks that carry content:

    - ``refuse``: the connection is closed without a byte.
    - ``abort``: the connection is reset without a byte.
    - ``cut``: the connection ends (FIN) in the middle of the body.
    - ``reset``: the same with a TCP reset.
    - ``no_finish``: the stream ends cleanly and early, with neither finish reason nor ending.
    - ``no_reason``: all the text and the ending are sent, but no finish reason.
    - ``bad_json``: a chunk (or the whole body) is half a JSON text.
    - ``stall``: nothing for ``stall_s`` seconds, then it goes on.
    - ``error_event``: an error event inside the stream, as overloaded providers send.

    ``vectors`` spoils an answer of embeddings; ``shuffled`` is right, and in another order than the texts.

    ``raw``: the body to send in place of all that, as it is: a whole answer's, an error's, or a stream's
    with its framing. ``headers`` go with it.

    ``times``: how many requests this step answers; None means all that follow.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str | None = None
    words: int = 12
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str | None = None
    refusal: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    delay_s: float = 0.0
    hold: bool = False
    first_token_delay_s: float = 0.0
    chunk_delay_s: float = 0.0
    chunk_chars: int | None = None

    raw: str | None = None
    status: int = 200
    retry_after_s: float | None = None
    message: str | None = None
    code: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    fault: Fault | None = None
    after_chunks: int = 2
    stall_s: float = 30.0
    vectors: VectorFault | None = None
    #: The tier that the answer names; None for the one that was asked for.
    service_tier: str | None = None

    times: int | None = 1


class Plan(BaseModel):
    """The steps for the requests that match; when they are used up, healthy answers follow.

    A request matches by the ``#tag`` in its prompt (``*``: any), by model and by provider
    (None: any). Of several plans the one with the most conditions wins, then the newest.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tag: str
    steps: tuple[Step, ...]
    model: str | None = None
    provider: str | None = None

    def matches(self, tags: list[str], model: str, provider: str) -> bool:
        """Whether a request with these marks is answered by this plan."""
        return (
            (self.tag == "*" or self.tag in tags)
            and self.model in (None, model)
            and self.provider in (None, provider)
        )

    @property
    def conditions(self) -> tuple[bool, bool, bool]:
        """Greater for the more particular plan."""
        return self.tag != "*", self.model is not None, self.provider is not None


class ProviderRequest(BaseModel):
    """What the simulator saw of one request. Times are ``time.monotonic()`` in seconds.

    That clock is the machine's: times compare with those taken in the test's own process.
    """

    id: int
    tag: str | None = None
    provider: str
    method: str
    path: str
    query: str = ""
    headers: list[tuple[str, str]]
    body: Any = None
    model: str = ""
    stream: bool = False
    prompt: str = ""

    received_at: float
    first_chunk_at: float | None = None
    chunk_at: list[float] = Field(default_factory=list)
    ended_at: float | None = None
    status: int = 0
    fault: str | None = None
    retry_after_s: float | None = None
    stalled_s: float | None = None
    texts: list[str] = Field(default_factory=list)
    """What was sent of each choice's text, up to the fault if there was one."""
    sent_bytes: int = 0
    chunks: int = 0
    completed: bool = False
    """The answer went out whole, as the plan meant it to be."""
    client_closed: bool = False
    """The client closed the connection before the answer was over; ``ended_at`` says when."""

    @property
    def text(self) -> str:
        """What was sent of the first choice's text."""
        return self.texts[0] if self.texts else ""

    @property
    def open(self) -> bool:
        """Still being answered."""
        return self.ended_at is None

    def header(self, name: str) -> str | None:
        """The first header of that name, in any case of letters."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)
