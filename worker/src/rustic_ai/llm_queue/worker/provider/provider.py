from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import litellm

from rustic_ai.llm_queue.tasks.answer_assembly import UnfinishedAnswer, UnnamedTool
from rustic_ai.llm_queue.tasks.call import SERVICE_TIERS, Call, CompletionCall, EmbeddingCall
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.errors import ErrorEnvelope
from rustic_ai.llm_queue.tasks.policy.limits import bounded
from rustic_ai.llm_queue.tasks.privacy.scrub import Scrubber
from rustic_ai.llm_queue.tasks.usage import Usage

from ..pool.inline_executor import in_place, in_thread_if
from ..settings import WorkerSettings
from .answers.answer_form import plain_response
from .completion import Completion as Completion
from .cost import cost_usd
from .embeddings.embedder import Embedder
from .embeddings.refused_text import RefusedText
from .embeddings.shared_call import OnCall
from .failures.classify import MalformedAnswer, StreamTruncated, classify, first_cause
from .litellm_api import seam
from .litellm_api.fast_path import fits, lean_completion, lean_stream
from .litellm_api.handler_call import handler_completion, handler_fits, handler_stream
from .litellm_api.litellm_stream import LiteLLMStream
from .litellm_api.short_request import STREAM_OPTIONS
from .parameters import checked_parameters, fitting_parameters, own_copy
from .provider_stream import ChunkSource, ProviderStream
from .service_tiers import tier_at
from .targets.budget_fallbacks import warn_of_fallbacks
from .targets.credentials import Credentials, Target
from .targets.deployment_limits import joined
from .targets.deployments import ModelRouter
from .targets.limit_matches import check_matches
from .targets.litellm_config import read_litellm_config
from .targets.policy import Policy
from .wire.exchange import Addresses, ClientRules, answer_is_large, exchange, forget_exchange
from .wire.large_answers import read_aside


class Provider:
    """Makes one call to one model through LiteLLM: no retry, no fallback, no log."""

    def __init__(
        self,
        settings: WorkerSettings,
        environment: Mapping[str, str] = os.environ,
        *,
        on_embedding_call: OnCall | None = None,
        jobs_on_their_way: Callable[[], int] = lambda: 0,
    ) -> None:
        """Raises `SettingsError` when the LiteLLM config file, or a limit, cannot be used."""
        self._settings = settings
        path = settings.litellm_config
        config = read_litellm_config(path, environment) if path else None
        known = {**config.variables, **environment} if config else environment
        self._router = ModelRouter(config) if config else None
        #: Limits on calls: the policy's, and those of the config's deployments.
        self.limit_rules = joined(settings.limit_rules(), config.limits if config else ())
        check_matches(
            [*self.limit_rules, *settings.budgets],
            has_deployments=config is not None,
            known_models=[*settings.known_models(), *(config.models() if config else ())],
        )
        warn_of_fallbacks(settings.budgets, settings.allowed_models)
        self._credentials = Credentials(
            known,
            allowed_endpoints=settings.allowed_endpoints,
            config_providers=config.providers() if config else None,
        )
        self._policy = Policy(settings, self._credentials)
        urls = [
            *known.values(),
            *(config.urls if config else ()),
            *(entry.base_url for entry in settings.allowed_endpoints),
        ]
        self._rules = ClientRules(Addresses(urls, settings.private_hosts()), settings.max_answer_bytes)
        self._embedder = Embedder(
            timeout_s=settings.max_timeout.total_seconds(),
            fast_path=settings.fast_path,
            rules=self._rules,
            on_call=on_embedding_call,
            jobs_on_their_way=jobs_on_their_way,
        )
        self._scrubber = Scrubber.of_environment(known).knowing(config.secrets if config else ())

    def check(self, call: Call) -> None:
        """Raises `PolicyViolation` when the job may not run as it is. Sends nothing."""
        self._policy.check(call)

    async def target(self, call: Call, model: str) -> Target:
        """Where the next call for `model` goes. Raises what `failure` explains."""
        forget_exchange()
        target = self._credentials.target(call, model)
        if not target.routed:
            if "api_base" in target.options:
                await self._policy.check_address(call)
            return _at_its_tier(target, call)
        assert self._router is not None
        picked = await self._router.pick(target.model, call.params.get("messages"), target.options)
        return _at_its_tier(self._credentials.keyed(picked), call)

    def failure(self, error: Exception, call: Call, model: str, target: Target | None) -> ErrorEnvelope:
        """The envelope of an exception of this provider's methods."""
        if self._router is not None and target is not None and "model_info" in target.options:
            self._router.rest(target, error)
        if isinstance(error, RefusedText):
            return error.named(self.failure(error.error, call, model, target))
        endpoint = call.endpoint
        secrets = [*endpoint.extra_headers.values(), *(target.secrets if target else ())]
        if endpoint.api_key:
            secrets.append(endpoint.api_key.get_secret_value())
        provider = target.provider if target else None
        envelope = classify(error, model=model, provider=provider, scrubber=self._scrubber.knowing(secrets))
        if envelope.kind is not ErrorKind.WORKER_FAULT:
            return envelope
        message = (
            f"The worker failed on this job ({type(first_cause(error)).__name__}); its log has the details."
        )
        return envelope.model_copy(update={"message": message})

    async def complete(self, call: Call, target: Target, *, org: str, alone: bool = False) -> Completion:
        """One call, answered whole. Raises what `failure` explains.

        Args:
            org: whose job it is: no provider call is shared between two.
            alone: share the provider call with no other job.
        """
        match call:
            case CompletionCall():
                return await self._complete_chat(call, target)
            case EmbeddingCall():
                return await self._embedder.complete(call, target, org=org, alone=alone)

    async def _complete_chat(self, call: CompletionCall, target: Target) -> Completion:
        arguments = self._arguments(call, target)

        def again() -> object:
            with seam.internal_sub_call():
                return litellm.completion(**self._arguments(call, target))

        with exchange(self._rules):
            short = self._short_arguments(arguments)
            if short is not None and fits(target, short):
                response: object = await lean_completion(str(target.provider), short)
            elif short is not None and handler_fits(target, short):
                response = await read_aside(handler_completion(str(target.provider), short), again)
            else:
                short = None
                response = await read_aside(
                    litellm.acompletion(**arguments), again, at_once=_never_blocks(target)
                )
        large = answer_is_large()
        plain = await in_thread_if(large, lambda: plain_response(response))
        if (short is not None or large) and self._router is not None:
            await self._router.count(target, plain.get("usage"), response)
        return self._completion(plain, target)

    def _short_arguments(self, arguments: dict[str, Any]) -> dict[str, Any] | None:
        if not self._settings.fast_path:
            return None
        return arguments if self._router is None else self._router.short_arguments(arguments)

    @asynccontextmanager
    async def stream(self, call: CompletionCall, target: Target) -> AsyncIterator[ProviderStream]:
        """One call, answered in chunks. Leaving the context closes the provider's connection."""
        arguments = self._arguments(call, target)
        with exchange(self._rules):
            short = self._short_arguments(arguments)
            source: ChunkSource
            if short is not None and fits(target, short):
                source = await lean_stream(str(target.provider), short)
            elif short is not None and handler_fits(target, short):
                source = await handler_stream(str(target.provider), short)
            else:
                short = None
                with in_place(_never_blocks(target)):
                    wrapper = await litellm.acompletion(
                        **arguments, stream=True, stream_options=STREAM_OPTIONS
                    )
                source = LiteLLMStream(wrapper, reads_events=self._settings.fast_path)
            mocked = bool(call.params.get("mock_response"))
            stream = ProviderStream(source, target, self._settings, mocked=mocked)
            try:
                yield stream
            finally:
                await source.aclose()
        if self._router is not None:
            # LiteLLM's own report of a stream is made by its wrapper, which is not read.
            await self._router.count(target, stream.assembler.usage)

    def completion_of(self, stream: ProviderStream, target: Target) -> Completion:
        """The answer that a stream was.

        Raises `StreamTruncated` when it ended too early, `MalformedAnswer`.
        """
        try:
            return self._completion(stream.assembler.response(), target)
        except UnfinishedAnswer as error:
            raise StreamTruncated(str(error)) from None
        except UnnamedTool as error:
            raise MalformedAnswer(str(error)) from None

    def _completion(self, response: dict[str, Any], target: Target) -> Completion:
        usage = response.get("usage")
        name = str(target.options.get("model", target.model))
        response.setdefault("model", name)
        # What a server of the job's own owner charges, and whether it counts, nobody here knows.
        tier = response.get("service_tier") or target.service_tier
        cost = None if target.foreign else cost_usd(name, target.provider, usage, target.prices, tier)
        return Completion(response, Usage.of(usage, cost_usd=cost))

    def _arguments(self, call: CompletionCall, target: Target) -> dict[str, Any]:
        params = bounded(checked_parameters(call.params), self._settings)
        asked = {name: value for name, value in params.items() if name != "service_tier"}
        tier = {"service_tier": target.service_tier} if target.service_tier else {}
        return {
            # Some of LiteLLM's providers write into what they are given, and a retry or fallback
            # needs it as the caller wrote it.
            **own_copy(fitting_parameters(asked, target.options.get("model", target.model))),
            **target.options,
            **tier,
            # The deadline is kept by our own clock: LiteLLM would open a client, with connections of
            # its own, for every other timeout.
            "timeout": self._settings.max_timeout.total_seconds(),
            # By default one 500 becomes three POSTs.
            "num_retries": 0,
            "max_retries": 0,
        }


def _at_its_tier(target: Target, call: Call) -> Target:
    name, about = str(target.options.get("model", target.model)), target.options.get("model_info")
    # A tier in the operator's LiteLLM config goes before the job's.
    pinned = target.options.get("service_tier")
    tier = pinned if pinned in SERVICE_TIERS else tier_at(call, name, target.provider, about)
    return target if tier is None else replace(target, service_tier=tier)


def _never_blocks(target: Target) -> bool:
    # Of the others, some make their calls, or fetch their credentials, where they are made.
    return target.provider == "openai" and not target.routed
