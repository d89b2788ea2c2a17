"""The measured servers, each written as its own documentation recommends."""
