"""Settings of TrustChain: their schema, where their values come from, and what follows from them."""
