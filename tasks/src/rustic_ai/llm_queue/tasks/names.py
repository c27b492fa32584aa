from __future__ import annotations

#: The one Celery task. Its only argument is the job id.
TASK_NAME = "rustic_ai.llm_queue.run_job"
DEFAULT_QUEUE = "llm"
#: Far more claims than any job lives through: one that is submitted again begins at the next multiple.
EPOCHS_OF_A_GENERATION = 1_000
MOST_GENERATIONS = 1_000
#: Every key and channel of ours begins with this.
KEY_PREFIX = "llmq:"
#: What hash tags of keys may look like. A brace would end the tag early.
TAG_PATTERN = r"^[A-Za-z0-9_.-]{0,32}$"
#: Of all our modules.
PACKAGE = "rustic_ai.llm_queue"
#: Of the environment variables that are settings.
ENV_PREFIX = "LLM_QUEUE_"
