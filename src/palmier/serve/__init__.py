"""The HTTP server, the chat page and the ranking page."""
