class DemoFailed(RuntimeError):
    """The demo did not show what it is there to show; the message says why."""
