"""The certificate authority: keys, profiles, issuance and the record of what was issued."""
