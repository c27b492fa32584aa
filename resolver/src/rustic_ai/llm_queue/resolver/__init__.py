"""What agents import: an `LLM` whose completions run as jobs on a queue.

Importing this package is cheap. Rustic's core, the `openai` exceptions and Celery are imported with
the first name that needs them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rustic_ai.llm_queue.tasks.attempt import AttemptRecord as AttemptRecord
    from rustic_ai.llm_queue.tasks.error_kind import ErrorKind as ErrorKind
    from rustic_ai.llm_queue.tasks.job import JobState as JobState

    from .agents.streaming_agent import CancelStream as CancelStream
    from .agents.streaming_agent import StreamingLLMAgent as StreamingLLMAgent
    from .agents.streaming_agent import StreamingLLMAgentConfig as StreamingLLMAgentConfig
    from .batches.item import BatchItem as BatchItem
    from .batches.item import BatchProgress as BatchProgress
    from .batches.progress import ProgressBar as ProgressBar
    from .chat_request import QueueChatCompletionRequest as QueueChatCompletionRequest
    from .chunk import ChatCompletionChunk as ChatCompletionChunk
    from .chunk import ChoiceDelta as ChoiceDelta
    from .chunk import ChunkChoice as ChunkChoice
    from .chunk import FunctionDelta as FunctionDelta
    from .chunk import ToolCallDelta as ToolCallDelta
    from .configuration_error import ConfigurationError as ConfigurationError
    from .exceptions import APIConnectionError as APIConnectionError
    from .exceptions import APITimeoutError as APITimeoutError
    from .exceptions import AuthenticationError as AuthenticationError
    from .exceptions import BadRequestError as BadRequestError
    from .exceptions import ConflictError as ConflictError
    from .exceptions import ContentPolicyViolationError as ContentPolicyViolationError
    from .exceptions import ContextWindowExceededError as ContextWindowExceededError
    from .exceptions import CredentialRequired as CredentialRequired
    from .exceptions import EndpointNotAllowed as EndpointNotAllowed
    from .exceptions import IdempotencyConflict as IdempotencyConflict
    from .exceptions import InternalServerError as InternalServerError
    from .exceptions import InvalidRecord as InvalidRecord
    from .exceptions import InvalidRequest as InvalidRequest
    from .exceptions import JobCancelled as JobCancelled
    from .exceptions import JobNotFound as JobNotFound
    from .exceptions import JobTimeout as JobTimeout
    from .exceptions import LimitExceeded as LimitExceeded
    from .exceptions import ModelNotAllowed as ModelNotAllowed
    from .exceptions import NotFoundError as NotFoundError
    from .exceptions import PermissionDeniedError as PermissionDeniedError
    from .exceptions import QueueError as QueueError
    from .exceptions import QueueUnavailable as QueueUnavailable
    from .exceptions import RateLimitError as RateLimitError
    from .exceptions import ResponseProcessingError as ResponseProcessingError
    from .exceptions import StreamExpired as StreamExpired
    from .exceptions import StreamIdle as StreamIdle
    from .exceptions import StreamRestarted as StreamRestarted
    from .exceptions import StreamTooLarge as StreamTooLarge
    from .exceptions import UnprocessableEntityError as UnprocessableEntityError
    from .exceptions import WorkerFault as WorkerFault
    from .exceptions import WorkerLost as WorkerLost
    from .handle import JobHandle as JobHandle
    from .llm import QueueLLM as QueueLLM
    from .properties import Properties as Properties
    from .resolver import QueueLLMResolver as QueueLLMResolver
    from .response import QueueChatCompletionResponse as QueueChatCompletionResponse
    from .response import QueueUsage as QueueUsage
    from .stream import AsyncCompletionStream as AsyncCompletionStream
    from .stream import CompletionStream as CompletionStream
    from .streams.order import Restarted as Restarted

_HOMES = {
    "..tasks.attempt": ("AttemptRecord",),
    "..tasks.error_kind": ("ErrorKind",),
    "..tasks.job": ("JobState",),
    ".batches.item": ("BatchItem", "BatchProgress"),
    ".batches.progress": ("ProgressBar",),
    ".chat_request": ("QueueChatCompletionRequest",),
    ".chunk": ("ChatCompletionChunk", "ChoiceDelta", "ChunkChoice", "FunctionDelta", "ToolCallDelta"),
    ".configuration_error": ("ConfigurationError",),
    ".exceptions": (
        "APIConnectionError",
        "APITimeoutError",
        "AuthenticationError",
        "BadRequestError",
        "ConflictError",
        "ContentPolicyViolationError",
        "ContextWindowExceededError",
        "CredentialRequired",
        "EndpointNotAllowed",
        "IdempotencyConflict",
        "InternalServerError",
        "InvalidRecord",
        "InvalidRequest",
        "JobCancelled",
        "JobNotFound",
        "JobTimeout",
        "LimitExceeded",
        "ModelNotAllowed",
        "NotFoundError",
        "PermissionDeniedError",
        "QueueError",
        "QueueUnavailable",
        "RateLimitError",
        "ResponseProcessingError",
        "StreamExpired",
        "StreamIdle",
        "StreamRestarted",
        "StreamTooLarge",
        "UnprocessableEntityError",
        "WorkerFault",
        "WorkerLost",
    ),
    ".handle": ("JobHandle",),
    ".llm": ("QueueLLM",),
    ".properties": ("Properties",),
    ".resolver": ("QueueLLMResolver",),
    ".response": ("QueueChatCompletionResponse", "QueueUsage"),
    ".stream": ("AsyncCompletionStream", "CompletionStream"),
    ".streams.order": ("Restarted",),
    ".agents.streaming_agent": ("CancelStream", "StreamingLLMAgent", "StreamingLLMAgentConfig"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME_OF)

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        home = _HOME_OF.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(home, __name__), name)

    def __dir__() -> list[str]:
        return __all__
