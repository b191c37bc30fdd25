"""The tests. A package, so that `from tests.nats_servers import ...` works from every folder."""
