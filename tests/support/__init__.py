"""Real parts for tests: servers, workers, providers and proxies as processes on loopback."""
