"""The providers' wire formats, one a file: requests read, answers and errors written."""

from support.providers.wire.anthropic import AnthropicWire
from support.providers.wire.anthropic_text import AnthropicTextWire
from support.providers.wire.base import Failure, Target, Wire
from support.providers.wire.cohere import CohereWire
from support.providers.wire.embeddings import EmbeddingsWire
from support.providers.wire.gemini import GeminiWire
from support.providers.wire.openai import AzureWire, HuggingFaceWire, OpenAIWire

WIRES: tuple[Wire, ...] = (
    OpenAIWire(),
    EmbeddingsWire(),
    AzureWire(),
    HuggingFaceWire(),
    AnthropicWire(),
    AnthropicTextWire(),
    GeminiWire(),
    CohereWire(),
)

__all__ = ["WIRES", "Failure", "Target", "Wire"]
