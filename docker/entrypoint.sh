#!/bin/sh
# Secrets as files: OPENAI_API_KEY_FILE=/run/secrets/openai stands for OPENAI_API_KEY, and so for every
# provider's key and for Redis' URL. What ends in _FILE otherwise is llm-queue's own affair.
set -eu

for name in $(env | sed -n 's/^\([A-Z][A-Z0-9_]*_API_KEY\)_FILE=.*/\1/p; s/^\(LLM_QUEUE_REDIS_URL\)_FILE=.*/\1/p'); do
    eval "path=\${${name}_FILE}"
    if ! value=$(cat -- "$path"); then
        echo "llm-queue: ${name}_FILE cannot be read" >&2
        exit 3
    fi
    export "$name=$value"
done

exec llm-queue "$@"
