"""Files, hashes, locks, processes and text: used by every other folder, importing none of them."""
