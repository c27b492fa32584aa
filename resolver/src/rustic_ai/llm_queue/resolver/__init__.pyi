# The package's public names: type checkers read them here, and `lazy_loader` imports them by it.
from .agents.streaming_agent import (
    CancelStream as CancelStream,
)
from .agents.streaming_agent import (
    StreamingLLMAgent as StreamingLLMAgent,
)
from .agents.streaming_agent import (
    StreamingLLMAgentConfig as StreamingLLMAgentConfig,
)
from .batches.item import (
    BatchItem as BatchItem,
)
from .batches.item import (
    BatchProgress as BatchProgress,
)
from .batches.progress import ProgressBar as ProgressBar
from .chat_request import QueueChatCompletionRequest as QueueChatCompletionRequest
from .chunk import (
    ChatCompletionChunk as ChatCompletionChunk,
)
from .chunk import (
    ChoiceDelta as ChoiceDelta,
)
from .chunk import (
    ChunkChoice as ChunkChoice,
)
from .chunk import (
    FunctionDelta as FunctionDelta,
)
from .chunk import (
    ToolCallDelta as ToolCallDelta,
)
from .configuration_error import ConfigurationError as ConfigurationError
from .embeddings.embedder import QueueEmbedder as QueueEmbedder
from .embeddings.embeddings import QueueEmbeddings as QueueEmbeddings
from .embeddings.pipeline_executor import ConcurrentPipelineExecutor as ConcurrentPipelineExecutor
from .embeddings.properties import EmbeddingProperties as EmbeddingProperties
from .embeddings.resolver import QueueEmbeddingsResolver as QueueEmbeddingsResolver
from .exceptions import (
    AnswerTooLarge as AnswerTooLarge,
)
from .exceptions import (
    APIConnectionError as APIConnectionError,
)
from .exceptions import (
    APITimeoutError as APITimeoutError,
)
from .exceptions import (
    AuthenticationError as AuthenticationError,
)
from .exceptions import (
    BadRequestError as BadRequestError,
)
from .exceptions import (
    BudgetExceeded as BudgetExceeded,
)
from .exceptions import (
    ConflictError as ConflictError,
)
from .exceptions import (
    ContentPolicyViolationError as ContentPolicyViolationError,
)
from .exceptions import (
    ContextWindowExceededError as ContextWindowExceededError,
)
from .exceptions import (
    CredentialRequired as CredentialRequired,
)
from .exceptions import (
    EndpointNotAllowed as EndpointNotAllowed,
)
from .exceptions import (
    ErrorKind as ErrorKind,
)
from .exceptions import (
    IdempotencyConflict as IdempotencyConflict,
)
from .exceptions import (
    InternalServerError as InternalServerError,
)
from .exceptions import (
    InvalidRecord as InvalidRecord,
)
from .exceptions import (
    InvalidRequest as InvalidRequest,
)
from .exceptions import (
    JobCancelled as JobCancelled,
)
from .exceptions import (
    JobNotFound as JobNotFound,
)
from .exceptions import (
    JobTimeout as JobTimeout,
)
from .exceptions import (
    LimitExceeded as LimitExceeded,
)
from .exceptions import (
    ModelNotAllowed as ModelNotAllowed,
)
from .exceptions import (
    NotFoundError as NotFoundError,
)
from .exceptions import (
    PermissionDeniedError as PermissionDeniedError,
)
from .exceptions import (
    QueueError as QueueError,
)
from .exceptions import (
    QueueUnavailable as QueueUnavailable,
)
from .exceptions import (
    RateLimitError as RateLimitError,
)
from .exceptions import (
    ResponseProcessingError as ResponseProcessingError,
)
from .exceptions import (
    StreamExpired as StreamExpired,
)
from .exceptions import (
    StreamIdle as StreamIdle,
)
from .exceptions import (
    StreamRestarted as StreamRestarted,
)
from .exceptions import (
    StreamTooLarge as StreamTooLarge,
)
from .exceptions import (
    UnprocessableEntityError as UnprocessableEntityError,
)
from .exceptions import (
    WorkerFault as WorkerFault,
)
from .exceptions import (
    WorkerLost as WorkerLost,
)
from .handle import (
    JobHandle as JobHandle,
)
from .handle import (
    JobState as JobState,
)
from .job_wait import JobWait as JobWait
from .llm import QueueLLM as QueueLLM
from .properties import Properties as Properties
from .resolver import QueueLLMResolver as QueueLLMResolver
from .response import (
    AttemptRecord as AttemptRecord,
)
from .response import (
    QueueChatCompletionResponse as QueueChatCompletionResponse,
)
from .response import (
    QueueUsage as QueueUsage,
)
from .stream import (
    AsyncCompletionStream as AsyncCompletionStream,
)
from .stream import (
    CompletionStream as CompletionStream,
)
from .streams.order import Restarted as Restarted

__all__: list[str]
