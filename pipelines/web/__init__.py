"""``jukebox web``: pages and an API on which people make songs. The process that answers never samples."""
