"""What agents import: an `LLM` whose completions run as jobs on a queue.

Importing this package is cheap: Rustic's core, `openai` and `redis` are imported with the first name
that needs them. The names are listed in `__init__.pyi`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
