"""Child processes that end with their parent, and a private Redis as one of them; for the demo and for tests."""
