"""What the providers say when they refuse: LiteLLM tells some errors apart by these words alone."""

CONTEXT = "context_length_exceeded"
CONTENT = "content_filter"

_OPENAI: dict[int | str, str] = {
    400: "Invalid value: 'usr'. Supported values are: 'system', 'assistant', 'user', 'function', 'tool'.",
    401: "Incorrect API key provided: sk-test***. "
    "You can find your API key at https://platform.openai.com/account/api-keys.",
    403: "Country, region, or territory not supported",
    404: "The model `no-such-model` does not exist or you do not have access to it.",
    429: "Rate limit reached for gpt-4o-mini in organization org-stub on requests per min (RPM): "
    "Limit 3, Used 3, Requested 1. Please try again in 20s.",
    500: "The server had an error while processing your request. Sorry about that!",
    503: "The engine is currently overloaded, please try again later",
    CONTEXT: "This model's maximum context length is 8192 tokens. However, your messages resulted in "
    "9000 tokens. Please reduce the length of the messages.",
    CONTENT: "Your request was rejected as a result of our safety system. "
    "content_policy_violation: Your prompt may contain text that is not allowed by our safety system.",
}
_MESSAGES: dict[str, dict[int | str, str]] = {
    "openai": _OPENAI,
    "azure": {
        **_OPENAI,
        401: "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a "
        "valid key for an active subscription and use a correct regional API endpoint for your resource.",
        404: "The API deployment for this resource does not exist. If you created the deployment within "
        "the last 5 minutes, please wait a moment and try again.",
        429: "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-10-21 "
        "have exceeded call rate limit of your current OpenAI S0 pricing tier. Please retry after 2 seconds.",
        CONTENT: "The response was filtered due to the prompt triggering Azure OpenAI's content management "
        "policy. Please modify your prompt and retry.",
    },
    "huggingface": {
        400: "Input validation error: `max_tokens` must be strictly positive",
        401: "Invalid credentials in Authorization header",
        404: "The requested model does not exist",
        429: "You have reached the rate limit. Please try again later.",
        503: "Model too busy, unable to get response in less than 60 second(s)",
        CONTEXT: "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8192. "
        "Given: 9000 `inputs` tokens and 100 `max_new_tokens`",
    },
    "anthropic": {
        400: "messages: roles must alternate between user and assistant",
        401: "invalid x-api-key",
        403: "Your API key does not have permission to use the specified resource.",
        404: "model: no-such-model",
        429: "This request would exceed the rate limit for your organization of 50 requests per minute.",
        500: "Internal server error",
        529: "Overloaded",
        CONTEXT: "prompt is too long: 200123 tokens > 200000 maximum",
        CONTENT: "Output blocked by content filtering policy",
    },
    "gemini": {
        400: 'Invalid JSON payload received. Unknown name "foo": Cannot find field.',
        403: "Permission denied: Consumer has been suspended.",
        404: "models/no-such-model is not found for API version v1beta",
        429: "You exceeded your current quota, please check your plan and billing details.",
        500: "An internal error has occurred. Please retry.",
        503: "The model is overloaded. Please try again later.",
        "API_KEY_INVALID": "API key not valid. Please pass a valid API key.",
        CONTEXT: "The input token count (1048600) exceeds the maximum number of tokens allowed (1048576).",
    },
    "cohere": {
        400: "invalid request: message must be at least 1 token long or tool results must be specified.",
        401: "invalid api token",
        404: "model 'no-such-model' not found, make sure the correct model ID was used",
        429: "You are using a Trial key, which is limited to 20 API calls / minute.",
        500: "internal server error, this has been reported to our developers.",
        CONTEXT: "too many tokens: size limit exceeded by 900 tokens. Try using shorter or fewer inputs.",
    },
}


def usual_message(provider: str, status: int, code: str | None) -> str:
    """The provider's own words for this error, or the bare status where we know none."""
    known = _MESSAGES[provider]
    return known.get(code or status) or known.get(status) or f"HTTP status {status}"
