"""Commands that `llm-queue` has where the resolver is installed. Importing them is cheap."""
