"""The models that are asked, one for each wire format."""

from __future__ import annotations

#: LiteLLM's name of the model by wire. DeepSeek's format is OpenAI's, but LiteLLM calls it by its own client.
MODELS = {
    "openai": "openai/gpt-4o-mini",
    "deepseek": "deepseek/deepseek-chat",
    "anthropic": "anthropic/claude-sonnet-4-5",
    "gemini": "gemini/gemini-2.5-flash",
    "azure": "azure/gpt-4o-mini",
}
MODEL = MODELS["openai"]
#: Before the wire's name in LiteLLM's config file.
CONFIGURED = "configured-"


def environment(provider_url: str) -> dict[str, str]:
    """Variables by which LiteLLM finds all providers at the stub."""
    return {
        "OPENAI_API_KEY": "sk-bench",
        "OPENAI_API_BASE": f"{provider_url}/v1",
        "OPENAI_BASE_URL": f"{provider_url}/v1",
        "DEEPSEEK_API_KEY": "sk-bench",
        "DEEPSEEK_API_BASE": f"{provider_url}/deepseek",
        "ANTHROPIC_API_KEY": "sk-bench",
        "ANTHROPIC_API_BASE": f"{provider_url}/anthropic",
        "GEMINI_API_KEY": "sk-bench",
        "GEMINI_API_BASE": f"{provider_url}/gemini/v1beta",
        "AZURE_API_KEY": "sk-bench",
        "AZURE_API_BASE": f"{provider_url}/azure",
        "AZURE_API_VERSION": "2024-10-21",
    }


def litellm_config(provider_url: str) -> str:
    """LiteLLM's config file with a model for each wire."""
    variables = environment(provider_url)
    lines = ["model_list:"]
    for wire, model in MODELS.items():
        lines += [
            f"  - model_name: {CONFIGURED}{wire}",
            "    litellm_params:",
            f"      model: {model}",
            f"      api_base: {variables[f'{wire.upper()}_API_BASE']}",
            f"      api_key: {variables[f'{wire.upper()}_API_KEY']}",
        ]
        if wire == "azure":
            lines.append(f"      api_version: '{variables['AZURE_API_VERSION']}'")
    return "\n".join(lines) + "\n"
