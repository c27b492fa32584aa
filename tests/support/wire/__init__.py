"""The providers' wire formats, one a file: requests read, answers and errors written."""

from support.wire.anthropic import AnthropicWire
from support.wire.anthropic_text import AnthropicTextWire
from support.wire.base import Failure, Target, Wire
from support.wire.cohere import CohereWire
from support.wire.gemini import GeminiWire
from support.wire.openai import AzureWire, HuggingFaceWire, OpenAIWire

WIRES: tuple[Wire, ...] = (
    OpenAIWire(),
    AzureWire(),
    HuggingFaceWire(),
    AnthropicWire(),
    AnthropicTextWire(),
    GeminiWire(),
    CohereWire(),
)

__all__ = ["WIRES", "Failure", "Target", "Wire"]
