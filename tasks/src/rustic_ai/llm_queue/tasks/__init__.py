"""The contract between the resolver and the worker. Imports neither of them, nor their libraries."""
