"""Ways to make calls, each with servers of its own."""
