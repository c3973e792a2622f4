"""A fuzzer of everything that is kept on disk, and a model of crashes; ``python -m tests.fuzz`` runs both."""
