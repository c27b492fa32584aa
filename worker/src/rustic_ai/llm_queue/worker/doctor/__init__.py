"""What `llm-queue doctor` looks at. Nothing here imports LiteLLM."""
