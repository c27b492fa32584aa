"""What runs in a client's process."""
