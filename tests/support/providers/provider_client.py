"""How a test scripts the provider's simulator and reads its record, wherever that runs."""

from collections.abc import Callable
from typing import Any

import httpx
from llmock.journal import RequestRecord, fingerprint
from llmock.verdict import Verdict, judge

from support.processes.wait import wait_until
from support.providers.provider_plan import Plan, ProviderRequest, Step

API_KEY = "sk-test-not-a-real-key"

_BASE_PATHS = {
    "openai": "/v1",
    "azure": "/azure",
    "huggingface": "/huggingface/v1",
    "anthropic": "/anthropic",
    "gemini": "/gemini/v1beta",
    "cohere": "/cohere/v2/chat",
}
_LLMOCK_FAULTS = {
    "cut": "stream:disconnect",
    "reset": "stream:disconnect",
    "refuse": "stream:disconnect",
    "abort": "stream:disconnect",
    "no_finish": "stream:truncate",
    "no_reason": "stream:truncate",
    "bad_json": "stream:malformed",
    "error_event": "stream:disconnect",
    "stall": "stream:stall",
}


class ProviderClient:
    """The simulator's control interface, and the addresses at which workers find it.

    Args:
        url: the simulator as this process sees it.
        workers_url: as workers see it, where that is another address.
    """

    def __init__(self, url: str, workers_url: str | None = None) -> None:
        self.url = url
        self._workers_url = workers_url or url
        # A proxy named in the environment is not for loopback.
        self._http = httpx.Client(base_url=url, timeout=30, trust_env=False)

    def base_url(self, provider: str = "openai") -> str:
        """LiteLLM's ``api_base`` for openai, azure, huggingface, anthropic, gemini or cohere."""
        return self._workers_url + _BASE_PATHS[provider]

    def env(self) -> dict[str, str]:
        """A worker's environment in which LiteLLM finds all its providers here."""
        return {
            "OPENAI_API_KEY": API_KEY,
            "OPENAI_API_BASE": self.base_url("openai"),
            "OPENAI_BASE_URL": self.base_url("openai"),
            # It speaks OpenAI's format, and LiteLLM calls it by a client of its own.
            "DEEPSEEK_API_KEY": API_KEY,
            "DEEPSEEK_API_BASE": self.base_url("openai"),
            "AZURE_API_KEY": API_KEY,
            "AZURE_API_BASE": self.base_url("azure"),
            "AZURE_API_VERSION": "2024-10-21",
            "HUGGINGFACE_API_KEY": API_KEY,
            "HF_TOKEN": API_KEY,
            "HF_API_BASE": self.base_url("huggingface") + "/chat/completions",
            "ANTHROPIC_API_KEY": API_KEY,
            "ANTHROPIC_API_BASE": self.base_url("anthropic"),
            "GEMINI_API_KEY": API_KEY,
            "GEMINI_API_BASE": self.base_url("gemini"),
            "COHERE_API_KEY": API_KEY,
            "COHERE_API_BASE": self.base_url("cohere"),
        }

    def bad_key(self, provider: str) -> Step:
        """What this provider answers to a wrong API key; Gemini's status is 400."""
        if provider == "gemini":
            return Step(status=400, code="API_KEY_INVALID")
        return Step(status=401)

    def plan(self, tag: str, *steps: Step, model: str | None = None, provider: str | None = None) -> None:
        """Script the answers to prompts with ``#tag`` in them (``"*"``: to all); healthy ones follow.

        With ``model`` (as the provider sees it) or ``provider`` the plan is for those requests only,
        so that one prompt fails at one model and succeeds at its fallback.
        """
        plan = Plan(tag=tag, steps=steps, model=model, provider=provider)
        self._order({"plans": [plan.model_dump()]})

    def release(self, tag: str | None = None) -> None:
        """Let go what a step with ``hold=True`` holds: one tag, now and later, or all held now."""
        self._order({"release": tag})

    def reset(self) -> None:
        """Forget plans and requests."""
        self._order({"reset": True})

    def requests(self, tag: str | None = None) -> list[ProviderRequest]:
        """Every request in the order of arrival, also those still open."""
        answer = self._http.get("/_requests", params={"tag": tag} if tag else None)
        answer.raise_for_status()
        return [ProviderRequest.model_validate(one) for one in answer.json()]

    def wait_for(
        self,
        condition: Callable[[list[ProviderRequest]], object],
        tag: str | None = None,
        timeout_s: float = 10.0,
        what: str = "the provider's record",
    ) -> list[ProviderRequest]:
        """Wait until ``condition(requests)`` is truthy and return the requests."""
        seen: list[ProviderRequest] = []

        def met() -> object:
            seen[:] = self.requests(tag)
            return condition(seen)

        wait_until(met, timeout_s, what)
        return seen

    def wait_for_requests(
        self, count: int, tag: str | None = None, timeout_s: float = 10.0
    ) -> list[ProviderRequest]:
        """Wait until at least ``count`` requests have come in."""
        what = f"{count} requests at the provider"
        return self.wait_for(lambda seen: len(seen) >= count, tag, timeout_s, what)

    @property
    def open_calls(self) -> int:
        """Calls under way now; cheap, unlike `requests`."""
        return self.stats()["open"]

    def stats(self) -> dict[str, int]:
        """``open`` and ``max_open`` calls at once, and ``served`` requests in all, since the last reset."""
        counters: dict[str, int] = self._http.get("/_stats").raise_for_status().json()
        return counters

    def verdict(self) -> Verdict:
        """llmock's judgement of how the client coped with what this simulator did to it.

        Attempts belong together by equal path and body: a fallback to another model counts as giving up.
        """
        return judge(_as_llmock(one) for one in self.requests() if not one.open and not one.client_closed)

    def assert_clean(self) -> None:
        """Raises AssertionError with the report unless the strict verdict is clean."""
        self.verdict().assert_ok(strict=True)

    def close(self) -> None:
        """Close the connections to it. Closing twice is safe."""
        self._http.close()

    def _order(self, order: dict[str, Any]) -> None:
        answer = self._http.post("/_control", json=order)
        assert answer.is_success, f"the simulator refused {order}: {answer.text}"


def _as_llmock(request: ProviderRequest) -> RequestRecord:
    fault = _LLMOCK_FAULTS.get(request.fault or "", request.fault)
    assert request.ended_at is not None
    return RequestRecord(
        seq=request.id,
        provider=request.provider,
        method=request.method,
        path=request.path,
        started_at=request.received_at,
        ended_at=request.ended_at,
        status=request.status or 200,
        fingerprint=fingerprint(request.method, request.path, request.body),
        model=request.model,
        stream=request.stream,
        fault=f"{fault}@{request.chunks}" if fault and fault.startswith("stream:") else fault,
        retry_after=request.retry_after_s,
        completed=request.completed and request.fault != "no_reason",
        chunks_sent=request.chunks,
        stall_waited=request.stalled_s,
        body=request.body,
    )
