"""Private keys: their types, their signatures, their files, and the token that may keep them."""
