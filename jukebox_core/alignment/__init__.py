"""Text in time with music, whatever model aligned it: times of characters, words and lines, and files of them."""
