"""Downloads: bytes from any source, resumable and verified."""
